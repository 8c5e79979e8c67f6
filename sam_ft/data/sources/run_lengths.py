"""The masks of a COCO image as run lengths, which are decoded when they are read."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from scipy import ndimage
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
        return torch.tensor(
            [_box_of_runs(*_object_runs(one), self.size[0]) for one in self.counts], dtype=torch.float32
        ).reshape(-1, 4)

    def rles(self) -> list[dict]:
        """As pycocotools takes them."""
        return [{"size": list(self.size), "counts": one} for one in self.counts]

    def union(self) -> NDArray[np.bool_]:
        """(H, W), true where any object is; from the run lengths, without the masks."""
        if not self.counts:
            return np.zeros(self.size, bool)
        merged = rle.merge([{"size": self.size, "counts": one} for one in self.counts])
        return decode_runs([merged["counts"]], self.size)[0]

    def crop(self, position: int) -> tuple[int, int, NDArray[np.bool_]]:
        """One mask within its tight box, without the rest of the image: x0, y0, (h, w) bool.

        Of an empty mask x0 = y0 = h = w = 0.
        """
        first, last = _object_runs(self.counts[position])
        x0, y0, x1, y1 = _box_of_runs(first, last, self.size[0])
        height, width = y1 - y0, x1 - x0
        # Positions within the box. A run that goes on in the next column makes the box as high as the image.
        starts, ends = (
            (pixel // self.size[0] - x0) * height + pixel % self.size[0] - y0 + after
            for pixel, after in ((first, 0), (last, 1))
        )
        steps = np.zeros(width * height + 1, np.int8)
        steps[starts] += 1
        steps[ends] -= 1  # where one run ends another may start
        columns = np.cumsum(steps[:-1], dtype=np.int8).view(bool).reshape(width, height)
        return x0, y0, np.ascontiguousarray(columns.T)

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


def count_steps(starts: NDArray[np.integer], size: Size) -> NDArray[np.int64]:
    """How many starts of runs are about a height after the last one, and how many a width, (2,).

    The first are those of pixels that are counted down the columns, the others along the rows; of a square none.
    """
    steps = np.diff(starts)
    fits = [int((np.abs(steps - side) <= 0.1 * side).sum()) for side in size]
    return np.array(fits if size[0] != size[1] else [0, 0])


def are_of_other_order(own: int, other: int) -> bool:
    """Whether the counts of `count_steps` tell that pixels are counted in the other order."""
    return other > 2 * own + 10


def encode_crop(x0: int, y0: int, crop: NDArray[np.bool_], size: Size) -> bytes:
    """The compressed RLE of a mask of which a part is known and the rest is false; the inverse of `crop`.

    x0, y0: of the part's first pixel · crop: (h, w) · size: (H, W) of the image
    """
    columns = np.pad(crop.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])  # in order: start and end of each run
    changes = (x0 + column) * size[0] + y0 + row
    # A run that ends with its column goes on if the next column starts with one.
    joined = np.flatnonzero(changes[1:-1:2] == changes[2::2])
    changes = np.delete(changes, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    runs = np.diff(changes, prepend=0, append=size[0] * size[1])
    # pycocotools ends with the last object pixel where that is the last of the image
    counts = runs[:-1] if len(runs) > 1 and not runs[-1] else runs
    return rle.frPyObjects({"size": list(size), "counts": counts.tolist()}, *size)["counts"]


def compress_ids(ids: NDArray[np.integer]) -> RunLengthMasks:
    """Run lengths of the objects of an id map, in order of their ids; no mask of the whole image is made.

    ids: (H, W), 0 for the background
    """
    height, width = ids.shape
    boxes = enumerate(ndimage.find_objects(ids), 1)  # None for an id without a pixel
    found = [(box, ids[box] == number) for number, box in boxes if box is not None]
    return RunLengthMasks(
        [encode_crop(columns.start, rows.start, mask, (height, width)) for (rows, columns), mask in found],
        (height, width),
    )


def _object_runs(counts: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last pixel of each run of the object, counted down the columns."""
    runs = decode_counts(counts)
    assert runs is not None  # damaged ones are refused when the file is read
    # Every second run is the object.
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1
    kept = last >= first  # a run may be of no pixel
    return first[kept], last[kept]


def _box_of_runs(first: NDArray[np.int64], last: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 as `masks_to_boxes` gives them."""
    if not len(first):
        return 0, 0, 0, 0
    (x0, top), (x1, bottom) = divmod(first, height), divmod(last, height)
    # A run that goes on in the next column holds a pixel of the last row and one of the first.
    y0, y1 = (0, height) if (x0 < x1).any() else (top.min(), bottom.max() + 1)
    return int(x0.min()), int(y0), int(x1.max() + 1), int(y1)
