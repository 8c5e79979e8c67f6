"""The masks of a COCO image as run lengths, which are decoded when they are read."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

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

    def union(self) -> NDArray[np.bool_]:
        """(H, W), true where any object is; from the run lengths, without the masks."""
        if not self.counts:
            return np.zeros(self.size, bool)
        return decode_runs(
            [rle.merge([{"size": self.size, "counts": one} for one in self.counts])["counts"]], self.size
        )[0]

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
