"""Instances of an image whose maps do not fit into memory: the watershed of `segment_maps`, block by block.

Seeds are numbered over the whole image as its maps arrive, in bands of rows. A watershed then runs in each block with a
halo around it, and the block keeps the pixels inside. So blocks cut no object, and where the halo reaches from each
pixel to the seeds that compete for it, the objects are those of one watershed over the whole image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from sam_ft.instances.row_buffer import RowBuffer
from sam_ft.instances.watershed import TRUNCATE, WatershedThresholds, boundary_and_seeds
from sam_ft.types import Size

CHUNK = 256  # rows of the maps that are smoothed and searched for seeds at once


@dataclass(frozen=True)
class FoundObject:
    """An object of an image within its box.

    order: objects ascend by it as the ids of `segment_maps` do; some numbers are left out
    x0, y0: of the first pixel of the box · mask: (h, w) bool · foreground: mean of this map over the object
    """

    order: int
    x0: int
    y0: int
    mask: NDArray[np.bool_]
    foreground: float


def segment_bands(
    bands: Iterable[NDArray[np.float32]], size: Size, thresholds: WatershedThresholds, halo: int, block: int = 1024
) -> Iterator[FoundObject]:
    """Separates the foreground into objects as `segment_maps` does, and gives each once it is complete.

    About block + 2 halo rows of the maps are in memory.

    bands: (3, rows, W) of the maps, from top to bottom · size: (H, W)
    halo: pixels around a block, at least as many as the longest side of an object · block: side in pixels
    """
    landscape, seeds, numbers = RowBuffer(), RowBuffer(), _SeedNumbers()
    prepared = _landscape_and_seeds(iter(bands), size, thresholds)
    objects: dict[int, _Parts] = {}
    complete: set[int] = set()
    for rows in _spans(size[0], block):
        while landscape.stop < min(rows.stop + halo, size[0]):
            maps, labels = next(prepared)
            above = seeds.last_row() if seeds.stop else None
            landscape.append(maps)
            seeds.append(numbers.add(labels, above))
        objects = _renumber(objects, numbers)
        bottom: set[int] = set()  # objects that may go on below
        for columns in _spans(size[1], block):
            ids = numbers.first(_segment_block(landscape, seeds, (rows, columns), size, halo, thresholds.foreground))
            foreground = landscape.window(rows, columns)[0]
            _collect(objects, complete, ids, foreground, (rows.start, columns.start))
            if rows.stop < size[0]:
                bottom.update(np.unique(ids[-1]).tolist())
        for number in sorted(objects.keys() - bottom):
            complete.add(number)
            parts = objects.pop(number)
            if parts.area >= thresholds.min_area:
                yield parts.join(number)
        landscape.drop(rows.stop - halo)
        seeds.drop(rows.stop - halo)


def _landscape_and_seeds(
    bands: Iterator[NDArray[np.float32]], size: Size, thresholds: WatershedThresholds
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Some rows at a time: foreground and smoothed boundary (2, rows, W), and labels (rows, W) of their seeds."""
    raw, every = RowBuffer(), slice(0, size[1])
    radius = int(TRUNCATE * thresholds.smoothing + 0.5)  # of the Gaussian, as SciPy rounds it
    for rows in _spans(size[0], CHUNK):
        around = slice(max(rows.start - radius, 0), min(rows.stop + radius, size[0]))
        while raw.stop < around.stop:
            raw.append(next(bands))
        maps = raw.window(around, every)
        inside = slice(rows.start - around.start, rows.stop - around.start)
        boundary, seeds = (one[inside] for one in boundary_and_seeds(maps, thresholds))
        labels, _ = ndimage.label(seeds)
        yield np.stack([maps[0, inside], boundary]), labels
        raw.drop(rows.stop - radius)


def _segment_block(
    landscape: RowBuffer, seeds: RowBuffer, block: tuple[slice, slice], size: Size, halo: int, threshold: float
) -> NDArray[np.int32]:
    """The numbers of the seeds whose floods reach the pixels of a block, 0 in the background."""
    around = tuple(
        slice(max(span.start - halo, 0), min(span.stop + halo, n)) for span, n in zip(block, size, strict=True)
    )
    markers = seeds.window(*around)
    if markers.any():
        foreground, boundary = landscape.window(*around)
        markers = watershed(-boundary, markers, mask=foreground > threshold)
    inside = tuple(
        slice(span.start - outer.start, span.stop - outer.start) for span, outer in zip(block, around, strict=True)
    )
    return markers[inside]


@dataclass
class _Parts:
    """The pixels of an object so far: boxes with their first row and column."""

    crops: list[tuple[int, int, NDArray[np.bool_]]] = field(default_factory=list)
    area: int = 0
    foreground: float = 0.0  # sum over the pixels

    def add(self, other: "_Parts") -> None:
        self.crops += other.crops
        self.area += other.area
        self.foreground += other.foreground

    def join(self, order: int) -> FoundObject:
        y0, x0 = min(top for top, _, _ in self.crops), min(left for _, left, _ in self.crops)
        y1 = max(top + crop.shape[0] for top, _, crop in self.crops)
        x1 = max(left + crop.shape[1] for _, left, crop in self.crops)
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for top, left, crop in self.crops:
            mask[top - y0 : top - y0 + crop.shape[0], left - x0 : left - x0 + crop.shape[1]] |= crop
        return FoundObject(order, x0, y0, mask, self.foreground / self.area)


def _collect(
    objects: dict[int, _Parts],
    complete: set[int],
    ids: NDArray[np.int32],
    foreground: NDArray[np.float32],
    start: tuple[int, int],
) -> None:
    """Adds the pixels of a block to their objects.

    complete: objects that get no more pixels; some are left only where the halo was too small
    ids, foreground: (h, w) of the block · start: its first row and column
    """
    if not ids.any():
        return
    # find_objects takes time by the highest number.
    least = int(ids[ids > 0].min())
    for number, box in enumerate(ndimage.find_objects(np.where(ids > 0, ids - least + 1, 0)), least):
        if box is None or number in complete:
            continue
        mask = ids[box] == number
        crop = (start[0] + box[0].start, start[1] + box[1].start, mask)
        total = float(foreground[box][mask].sum(dtype=np.float64))
        objects.setdefault(number, _Parts()).add(_Parts([crop], int(mask.sum()), total))


class _SeedNumbers:
    """Numbers of the seeds of the whole image, of which some rows are labeled at a time.

    A seed that goes on in the next rows has a number in each; all of them are joined under the smallest.
    """

    def __init__(self) -> None:
        self._first = np.zeros(1, np.int32)  # of each number the smallest of its seed
        self._joined: list[int] = []  # numbers that are not the smallest

    def add(self, labels: NDArray[np.int32], above: NDArray[np.int32] | None) -> NDArray[np.int32]:
        """Numbers for further rows.

        labels: (rows, W) from 1 · above: (W,) the numbers of the row before them
        """
        offset = len(self._first) - 1
        self._first = np.append(self._first, np.arange(offset + 1, offset + 1 + labels.max(), dtype=np.int32))
        numbers = np.where(labels > 0, labels + np.int32(offset), np.int32(0))
        if above is not None:
            touching = np.stack([above, numbers[0]])[:, (above > 0) & (numbers[0] > 0)]
            for pair in np.unique(touching, axis=1).T.tolist():
                low, high = sorted(map(self._find, pair))
                if low < high:
                    self._first[high] = low
                    self._joined.append(high)
            for number in self._joined:  # so that `first` needs one look-up
                self._first[number] = self._find(number)
        return numbers

    def first(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """The smallest number of the seed of each."""
        return self._first[numbers]

    def _find(self, number: int) -> int:
        while (lower := int(self._first[number])) < number:
            number = lower
        return number


def _renumber(objects: dict[int, _Parts], numbers: _SeedNumbers) -> dict[int, _Parts]:
    """The objects by the smallest numbers of their seeds, some of which have been joined since."""
    renumbered: dict[int, _Parts] = {}
    for number, parts in objects.items():
        renumbered.setdefault(int(numbers.first(np.array(number))), _Parts()).add(parts)
    return renumbered


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
