"""Cuts the masks of an image to a window of it; compact forms stay compact."""

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from sam_ft.data.io.id_masks import IdMasks
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.types import Masks, Size, dense_parts
from sam_ft.utils.tiles import Window


@singledispatch
def crop_masks(masks: Masks, window: Window) -> tuple[Masks, Tensor]:
    """The masks of all N objects in a window, and the share of its area that each object has there.

    window: rows and columns → N masks in the frame of the window, some perhaps empty · (N,) float64
    """
    raise TypeError(f"masks of {type(masks).__name__} cannot be cropped")


@crop_masks.register
def _(masks: Tensor, window: Window) -> tuple[Masks, Tensor]:
    inside = masks[:, window[0], window[1]]
    return inside.clone(), _share(inside.sum(dim=(1, 2)), masks.sum(dim=(1, 2)))


@crop_masks.register
def _(masks: IdMasks, window: Window) -> tuple[Masks, Tensor]:
    inside = replace(masks, layers=tuple(layer[window].clone() for layer in masks.layers))
    return inside, _share(inside.areas, masks.areas)


@crop_masks.register
def _(masks: RunLengthMasks, window: Window) -> tuple[Masks, Tensor]:
    rows, columns = window
    size = (rows.stop - rows.start, columns.stop - columns.start)
    counts, inside, whole = [], [], []
    for position in range(len(masks)):
        x0, y0, mask = masks.crop(position)
        # The part of the object's box that lies in the window; empty where they do not meet.
        left, top = max(columns.start, x0), max(rows.start, y0)
        part = mask[top - y0 : max(rows.stop - y0, 0), left - x0 : max(columns.stop - x0, 0)]
        met = part.size > 0
        counts.append(encode_crop(left - columns.start if met else 0, top - rows.start if met else 0, part, size))
        inside.append(int(part.sum()))
        whole.append(int(mask.sum()))
    return replace(masks, counts=counts, size=size), _share(torch.tensor(inside), torch.tensor(whole))


@singledispatch
def select_masks(masks: Masks, positions: Tensor) -> Masks:
    """Some of the masks in the same form: (n,) int64 positions."""
    return masks[positions]


@select_masks.register
def _(masks: IdMasks, positions: Tensor) -> Masks:
    return replace(masks, layer_of=masks.layer_of[positions], ids=masks.ids[positions])


@select_masks.register
def _(masks: RunLengthMasks, positions: Tensor) -> Masks:
    return replace(masks, counts=[masks.counts[position] for position in positions.tolist()])


def union_of_masks(masks: Masks, size: Size) -> Tensor:
    """(H, W) bool, true where any of the masks is; a few are dense at a time."""
    union = torch.zeros(size, dtype=torch.bool)
    for part in dense_parts(masks, size):
        union |= part.any(dim=0)
    return union


def _share(inside: Tensor, whole: Tensor) -> Tensor:
    return inside.double() / whole.clamp(min=1)
