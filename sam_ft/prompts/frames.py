"""Prompts in another frame of the same image."""

from dataclasses import replace

from sam_ft.types import Prompts, Size
from sam_ft.utils.geometry import scale_boxes, scale_points


def scale_prompts(prompts: Prompts, from_size: Size, to_size: Size) -> Prompts:
    """Moves boxes and points from an image of one size to the same image of another; masks stay in their own grid."""
    boxes = None if prompts.boxes is None else scale_boxes(prompts.boxes, from_size, to_size)
    points = None if prompts.points is None else scale_points(prompts.points, from_size, to_size)
    return replace(prompts, boxes=boxes, points=points)
