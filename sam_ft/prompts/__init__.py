"""What is asked about each object: prompts made from the ground truth."""

from sam_ft.prompts.box import Box

__all__ = ["Box"]
