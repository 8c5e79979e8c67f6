"""Prompts that a caller gives as arrays, checked: SAM would predict some mask for wrong ones without an error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_ft.types import Prompts, Size

BEYOND = 0.05  # of 0 and 1, for normalized boxes of detectors


def prompts_from_arrays(
    size: Size, mask_side: int, device: torch.device, *, boxes: Any, points: Any, point_labels: Any, mask_input: Any
) -> Prompts:
    """The prompts as float32 tensors on a device, in the frame of the image.

    size: of the image · mask_side: of mask_input
    boxes: (N, 4) · points: (N, K, 2) · point_labels: (N, K) · mask_input: (N, 1, side, side); arrays, or None

    Raises: ValueError about the first that is wrong, see `Predictor.predict`.
    """
    prompts = Prompts(
        boxes=_tensor("boxes", boxes, ("N", 4), device),
        points=_tensor("points", points, ("N", "K", 2), device),
        point_labels=_tensor("point_labels", point_labels, ("N", "K"), device),
        masks=_tensor("mask_input", mask_input, ("N", 1, mask_side, mask_side), device),
    )
    if (prompts.points is None) != (prompts.point_labels is None):
        raise ValueError("points and point_labels go together; one of them is missing")
    given = {name: len(value) for name, value in vars(prompts).items() if value is not None}
    if not given:
        raise ValueError("no prompt was given; pass boxes, points with point_labels, or mask_input")
    if len(set(given.values())) > 1:
        raise ValueError(f"prompts are for different numbers of objects: {given}")
    if prompts.boxes is not None:
        _check_boxes(prompts.boxes, size)
    if prompts.points is not None and prompts.point_labels is not None:
        alone = prompts.boxes is None and prompts.masks is None
        _check_points(prompts.points, prompts.point_labels, size, alone)
    return prompts


def _tensor(name: str, value: Any, shape: tuple[int | str, ...], device: torch.device) -> Tensor | None:
    """shape: expected lengths, with a letter for a free one"""
    if value is None:
        return None
    tensor = _number_tensor(name, value).to(device, torch.float32)
    if tensor.shape == (0,):  # []: no objects
        return tensor.reshape([0 if isinstance(length, str) else length for length in shape])
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} is {tuple(tensor.shape)}; expected ({', '.join(map(str, shape))})")
    return tensor


def _number_tensor(name: str, value: Any) -> Tensor:
    """A tensor of any array of real numbers."""
    try:
        tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError):  # texts, None, rows of different lengths
        tensor = None
    if tensor is None or tensor.is_complex():
        raise ValueError(
            f"{name} is no array of numbers, but {str(value)[:100]}; expected one, or lists of equal lengths"
        )
    if name == "mask_input" and tensor.numel() and not (tensor.is_floating_point() and tensor.isfinite().all()):
        found = "nan or infinite values" if tensor.is_floating_point() else f"{tensor.dtype}"
        raise ValueError(f"mask_input holds {found}; expected the logits that `predict` returned, as floats")
    return tensor


def _check_boxes(boxes: Tensor, size: Size) -> None:
    """Refuses boxes that are empty, not finite, or outside the image."""
    height, width = size
    x0, y0, x1, y1 = boxes.cpu().T
    upright = (x0 < x1) & (y0 < y1) & boxes.cpu().isfinite().all(1)
    inside = (x0 < width) & (y0 < height) & (x1 > 0) & (y1 > 0)
    for row, box in enumerate(boxes.tolist()):
        if not upright[row]:
            raise ValueError(f"boxes[{row}] is {box}; expected finite x0, y0, x1, y1 with x0 < x1 and y0 < y1")
        if not inside[row]:
            raise ValueError(f"boxes[{row}] is {box}, outside the image, which is {width} wide and {height} high")
        _refuse_normalized(f"boxes[{row}]", box, size)


def _check_points(points: Tensor, labels: Tensor, size: Size, alone: bool) -> None:
    """Refuses points outside the image, with other labels, or without one of an object or background.

    alone: there are no other prompts
    """
    if points.shape[:2] != labels.shape:
        shapes = tuple(points.shape), tuple(labels.shape)
        raise ValueError(f"points is {shapes[0]} and point_labels {shapes[1]}; expected a label for each point")
    height, width = size
    for row, (own, own_labels) in enumerate(zip(points.tolist(), labels.tolist(), strict=True)):
        if wrong := [label for label in own_labels if label not in (1, 0, -1)]:
            raise ValueError(
                f"point_labels[{row}] holds {wrong[0]:g}; expected 1 (object), 0 (background) or -1 (padding)"
            )
        given = [point for point, label in zip(own, own_labels, strict=True) if label != -1]
        for x, y in given:
            if not (0 <= x < width and 0 <= y < height):  # also nan
                raise ValueError(
                    f"points[{row}] holds {[x, y]}, outside the image, which is {width} wide and {height} high; "
                    "expected x, y in pixels"
                )
        _refuse_normalized(f"points[{row}]", [value for point in given for value in point], size)
        if alone and not given:
            raise ValueError(f"points[{row}] holds no point but padding; expected one with the label 1 or 0")


def _refuse_normalized(name: str, values: Sequence[float], size: Size) -> None:
    """Refuses coordinates that are all from 0 to 1, or hardly beyond, unless that is most of the image."""
    height, width = size
    if values and max(size) > 2 and all(-BEYOND <= value <= 1 + BEYOND for value in values):
        came = [round(value, 4) for value in values]
        raise ValueError(
            f"{name} is {came}, within one pixel of an image that is {width} wide and {height} high; expected pixels, "
            "so multiply x by the width and y by the height"
        )
