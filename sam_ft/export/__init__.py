"""Exports a tuned model in formats that other programs load."""

from sam_ft.export.official import export_official

__all__ = ["export_official"]
