"""Exports a tuned model in formats that other programs load."""

from sam_ft.export.official import write_state_dict

__all__ = ["write_state_dict"]
