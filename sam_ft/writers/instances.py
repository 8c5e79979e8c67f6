"""The predicted objects of one image, as every writer takes them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from sam_ft.data.sources.run_lengths import RunLengthMasks
from sam_ft.metrics.average_precision import encode_masks
from sam_ft.report.pictures import COLORS
from sam_ft.types import Masks, Size, dense_parts


class Pixels(Protocol):
    """The pixels (C, H, W) of an image: a tensor, or a reader that reads the window it is asked for."""

    def __getitem__(self, window: tuple[slice, slice, slice], /) -> Tensor: ...


@dataclass
class Instances:
    """The N predicted objects of one image, which may overlap. Files number them from 1, in this order.

    name: of the image's result files, unique in a run; "a/b" lies in the folder a
    file: the image's path below the folder of images, with forward slashes · path: of the image
    masks: in the frame of the upright image, none of them empty; see `compress_masks` and `compress_ids`
    scores: (N,) float32 · labels: (N,) int64, keys of `classes` · classes: {label: name}
    image: (3, H, W) uint8, as the model reads it · values: (C, H, W) as the file has them; None if not measured
    """

    name: str
    file: str
    path: Path
    masks: RunLengthMasks
    scores: Tensor
    labels: Tensor
    classes: Mapping[int, str]
    image: Pixels
    values: Pixels | None = None

    def __post_init__(self) -> None:
        if not len(self.masks) == len(self.scores) == len(self.labels):
            raise ValueError(
                f"{len(self.masks)} masks, {len(self.scores)} scores, {len(self.labels)} labels; expected as many"
            )
        if not all(rle.area({"size": self.size, "counts": counts}) for counts in self.masks.counts):
            raise ValueError("a mask is empty; leave the object out, with its score and its label")
        # Positions of the classes, in order of their labels: they give a class its color and YOLO's number.
        place = {label: position for position, label in enumerate(sorted(self.classes))}
        self.class_places = [place[label] for label in self.labels.tolist()]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def size(self) -> Size:
        """(H, W)"""
        return self.masks.size

    def crops(self) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """x0, y0 and (h, w) bool of each mask: a large image has room for one object at a time."""
        return (self.masks.crop(position) for position in range(len(self)))

    def class_names(self) -> list[str]:
        """The class of each object."""
        return [self.classes[label] for label in self.labels.tolist()]

    def class_colors(self) -> list[tuple[int, ...]]:
        """Red, green, blue of each object's class."""
        return [COLORS[place % len(COLORS)] for place in self.class_places]

    def short_scores(self) -> list[float]:
        """The scores with as few digits as give the same float32 again: 0.9, not 0.8999999761581421."""
        return [float(str(score)) for score in self.scores.to(torch.float32).numpy()]


def compress_masks(masks: Masks, size: Size) -> RunLengthMasks:
    """Run lengths of masks in any form, of which a few at a time are made dense."""
    return RunLengthMasks([one["counts"] for part in dense_parts(masks, size) for one in encode_masks(part)], size)
