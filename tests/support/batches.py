"""Small batches for training and evaluation."""

import torch

from sam_ft.data.collate import collate
from sam_ft.data.transforms import resize_for_evaluation, resize_longest_side
from sam_ft.types import Batch, Original, Sample


def sample(name: str, height: int = 60, width: int = 100, objects: int = 3) -> Sample:
    """A black image with rectangles, each a little larger and further right than the one before."""
    masks = torch.zeros(objects, height, width, dtype=torch.bool)
    for i in range(objects):
        masks[i, 5 + i : 25 + 3 * i, 10 + 2 * i : 40 + 4 * i] = True
    return Sample(
        image=torch.zeros(3, height, width, dtype=torch.uint8),
        masks=masks,
        labels=torch.arange(objects),
        name=name,
        size=(height, width),
        object_index=torch.arange(objects),
    )


def training(*samples: Sample, side: int = 64) -> Batch:
    return collate([resize_longest_side(sample, side) for sample in samples], side)


def evaluation(*samples: Sample, side: int = 64) -> Batch:
    originals = [Original(sample.masks, sample.ignore, sample.size) for sample in samples]
    return collate([resize_for_evaluation(sample, side) for sample in samples], side, originals=originals)


def at(masks: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The value of each (N, H, W) mask at its (N, K, 2) points."""
    x, y = points.long().unbind(-1)
    return masks[torch.arange(len(masks))[:, None], y, x]
