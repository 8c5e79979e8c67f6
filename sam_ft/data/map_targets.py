"""The maps that a head learns, made of all objects of an image."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.id_masks import IdMasks
from sam_ft.data.transforms import dihedral
from sam_ft.instances.maps import instance_maps
from sam_ft.types import Masks, Sample, Size, dense_parts
from sam_ft.utils.geometry import resize_masks, resized_size


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
