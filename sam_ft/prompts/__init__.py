"""Prompts made from the ground truth, and from the errors of the prediction before."""

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.box import Box
from sam_ft.prompts.clicks import Clicks, Iterative
from sam_ft.prompts.frames import scale_prompts
from sam_ft.prompts.ground_truth import Comparison, GroundTruth, compare_on_grid, ground_truth
from sam_ft.prompts.mask import Mask
from sam_ft.prompts.mixed import Mixed
from sam_ft.prompts.point import Point
from sam_ft.prompts.session import InteractiveSession

__all__ = [
    "Box",
    "Clicks",
    "Comparison",
    "GroundTruth",
    "InteractiveSession",
    "Iterative",
    "Mask",
    "Mixed",
    "Point",
    "Prompter",
    "compare_on_grid",
    "ground_truth",
    "scale_prompts",
]
