"""What is asked about each object: prompts made from the ground truth, and from the errors of the last answer."""

from sam_ft.prompts.base import Dialogue, Errors, Prompter, errors_on_grid
from sam_ft.prompts.box import Box
from sam_ft.prompts.clicks import Clicks, Iterative
from sam_ft.prompts.mask import Mask
from sam_ft.prompts.mixed import Mixed
from sam_ft.prompts.point import Point

__all__ = ["Box", "Clicks", "Dialogue", "Errors", "Iterative", "Mask", "Mixed", "Point", "Prompter", "errors_on_grid"]
