"""A page on this machine on which a person segments images by clicks and boxes."""
