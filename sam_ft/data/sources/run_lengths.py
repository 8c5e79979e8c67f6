"""The masks of a COCO image as run lengths, which are decoded when they are read."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from sam_ft.data.sources.coco_masks import decode_counts
from sam_ft.types import Size, TensorFields


@dataclass
class RunLengthMasks(TensorFields):
    """The masks of N objects, which may overlap; a `types.Masks`.

    counts: N compressed RLEs · size: (H, W) · device: of the decoded masks
    """

    counts: Sequence[bytes]
    size: Size
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, positions: Tensor) -> Tensor:
        """(n,) int64 positions → (n, H, W) bool"""
        picked = [self.counts[position] for position in positions.tolist()]
        return torch.from_numpy(decode_runs(picked, self.size)).to(self.device)

    def boxes(self) -> Tensor:
        """(N, 4) as `masks_to_boxes` gives them, without the masks."""
        return torch.tensor([_box_of_runs(one, self.size[0]) for one in self.counts]).reshape(-1, 4)

    def union(self) -> NDArray[np.bool_]:
        """(H, W), true where any object is; from the run lengths, without the masks."""
        if not self.counts:
            return np.zeros(self.size, bool)
        merged = rle.merge([{"size": self.size, "counts": one} for one in self.counts])
        return decode_runs([merged["counts"]], self.size)[0]

    def _map(self, move: Callable[[Tensor], Tensor]) -> "RunLengthMasks":
        # Run lengths stay on the CPU, where they are decoded.
        return replace(self, device=move(torch.empty(0, device=self.device)).device)


def decode_runs(counts: Sequence[bytes], size: Size) -> NDArray[np.bool_]:
    """(N, H, W) bool: the masks of N compressed RLEs."""
    if not counts:
        return np.zeros((0, *size), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 about pycocotools 2.0.11
        masks = rle.decode([{"size": size, "counts": one} for one in counts])
    return np.ascontiguousarray(masks.transpose(2, 0, 1)).view(bool)  # pycocotools runs down the columns


def _box_of_runs(counts: bytes, height: int) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a compressed RLE, as `masks_to_boxes` gives it."""
    runs = decode_counts(counts)
    assert runs is not None  # damaged ones are refused when the file is read
    # Pixels are counted down the columns; every second run is the object.
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1
    kept = last >= first  # a run may be of no pixel
    first, last = first[kept], last[kept]
    if not len(first):
        return 0.0, 0.0, 0.0, 0.0
    (x0, top), (x1, bottom) = divmod(first, height), divmod(last, height)
    # A run that goes on in the next column holds a pixel of the last row and one of the first.
    y0, y1 = (0, height) if (x0 < x1).any() else (top.min(), bottom.max() + 1)
    return float(x0.min()), float(y0), float(x1.max() + 1), float(y1)
