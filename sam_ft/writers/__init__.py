"""Predicted masks as other programs read them: one module for each format, `formats` lists them."""
