"""The maps that a head learns, made of all objects of an image."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.id_masks import IdMasks
from sam_ft.data.transforms import dihedral
from sam_ft.instances.maps import instance_maps
from sam_ft.types import NOTHING_ELSEWHERE, Masks, Sample, Size, dense_parts
from sam_ft.utils.geometry import resize_masks, resized_size


def head_targets(sample: Sample, view: int, image_size: int, side: int, labels: Sequence[int] | None) -> Tensor:
    """`semantic_targets` for a head with classes of these labels, or `instance_targets` for None."""
    if labels is None:
        return instance_targets(sample, view, image_size, side)
    return semantic_targets(sample, view, image_size, side, labels)


def instance_targets(sample: Sample, view: int, image_size: int, side: int) -> Tensor:
    """The maps of `instances.maps.instance_maps` in the frame of the head's output.

    sample: in the original frame, with all of its objects · view: one of the 8 of `transforms.dihedral`
    image_size: S · side: 4s, which divides S → (3, 4s, 4s) float32, nan in the padding and in ignored regions

    Objects are resized by nearest neighbor, as those of the prompts; the maps are averaged over the pixels of a cell.
    """
    ids = dihedral(torch.from_numpy(paint(sample.masks, sample.size)), view)
    size = resized_size((ids.shape[0], ids.shape[1]), image_size)
    maps = torch.from_numpy(instance_maps(resize_masks(ids[None].contiguous(), size)[0].numpy()))
    padded = F.pad(maps, (0, image_size - size[1], 0, image_size - size[0]))
    means = F.avg_pool2d(padded, image_size // side)
    return means.masked_fill(~valid_cells(sample, view, image_size, side), torch.nan)


def semantic_targets(sample: Sample, view: int, image_size: int, side: int, labels: Sequence[int]) -> Tensor:
    """The channel of each cell of a semantic head's output, see `channel_map`.

    → (1, 4s, 4s) float32, nan in the padding, in ignored regions and for other labels; else as `instance_targets`

    Objects are resized by nearest neighbor; a cell has the channel of most of its pixels, of equal ones the lowest.
    """
    channels = dihedral(torch.from_numpy(channel_map(sample.masks, sample.labels, sample.size, labels)), view)
    size = resized_size((channels.shape[0], channels.shape[1]), image_size)
    resized = resize_masks(channels[None].contiguous(), size)[0]
    padded = F.pad(resized, (0, image_size - size[1], 0, image_size - size[0]), value=-1)
    # One channel at a time: a map for each of a hundred classes would fill the memory.
    share, cells = torch.zeros(side, side), torch.full((side, side), -1.0)
    for channel in padded.unique().tolist():
        own = F.avg_pool2d((padded == channel).float()[None], image_size // side)[0]
        cells[own > share] = channel
        share = torch.maximum(share, own)
    valid = valid_cells(sample, view, image_size, side) & (cells >= 0)
    return cells.masked_fill(~valid, torch.nan)[None]


def channel_map(
    masks: Masks, labels: Tensor, size: Size, known: Sequence[int], elsewhere: Tensor | None = None
) -> NDArray[np.int32]:
    """The channel of a semantic head at each pixel: 0 background, the class's position in `known` + 1, -1 for others.

    labels: (N,) of the objects · known: labels of the classes; empty: all objects are in channel 1
    elsewhere: (H, W) labels of further objects, see `Sample.elsewhere` → (H, W)

    Where objects overlap, the smaller one counts.
    """
    place = {label: position for position, label in enumerate(known, 1)}
    channels = [place.get(label, -1) if known else 1 for label in labels.tolist()]
    found = np.array([0, *channels], np.int32)[paint(masks, size)]
    if elsewhere is not None:
        for label in elsewhere.unique().tolist():
            if label != NOTHING_ELSEWHERE:
                found[elsewhere.numpy() == label] = place.get(label, -1) if known else 1
    return found


def valid_cells(sample: Sample, view: int, image_size: int, side: int) -> Tensor:
    """(4s, 4s) bool: cells of the head's output with neither padding nor pixels to ignore."""
    ignore = torch.zeros(sample.size, dtype=torch.bool) if sample.ignore is None else sample.ignore
    ignore = dihedral(ignore, view)
    size = resized_size((ignore.shape[0], ignore.shape[1]), image_size)
    excluded = torch.ones(1, image_size, image_size)
    excluded[:, : size[0], : size[1]] = resize_masks(ignore[None].contiguous(), size).float()
    return F.max_pool2d(excluded, image_size // side)[0] == 0


def paint(masks: Masks, size: Size) -> NDArray[np.int32]:
    """Draws all objects into one map, the smaller on top where they overlap: (H, W), 0 background, else position + 1.

    Where no objects overlap, `IdMasks` hold that map already.
    """
    if isinstance(masks, IdMasks) and len(masks.layers) == 1:
        return masks.positions() + 1
    canvas, number = np.zeros(size, np.int32), 0
    areas = np.full(len(masks) + 1, size[0] * size[1] + 1)  # of the object of each id; 0 lies below all
    for part in dense_parts(masks, size):
        for mask in part.numpy():
            number += 1
            areas[number] = mask.sum()
            canvas[mask & (areas[canvas] > areas[number])] = number
    return canvas
