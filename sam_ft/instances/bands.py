"""Instances of an image whose maps do not fit into memory: the watershed of `segment_maps`, block by block.

Seeds are numbered over the whole image as its maps arrive, in bands of rows. A watershed then runs in each block with a
halo around it, and the block keeps the pixels inside. So blocks cut no object, and where the halo reaches from each
pixel to the seeds that compete for it, the objects are those of one watershed over the whole image.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from sam_ft.instances.parts import FoundObject, ObjectParts, SeedNumbers, collect_parts, renumber_parts
from sam_ft.instances.row_buffer import RowBuffer
from sam_ft.instances.watershed import TRUNCATE, WatershedThresholds, boundary_and_seeds
from sam_ft.types import Size

CHUNK = 256  # rows of the maps that are smoothed and searched for seeds at once


def segment_bands(
    bands: Iterable[NDArray[np.float32]], size: Size, thresholds: WatershedThresholds, halo: int, block: int = 1024
) -> Iterator[FoundObject]:
    """Separates the foreground into objects as `segment_maps` does, and gives each once it is complete.

    About block + 2 halo rows of the maps are in memory.

    bands: (3, rows, W) of the maps, from top to bottom · size: (H, W)
    halo: pixels around a block, at least as many as the longest side of an object · block: side in pixels
    """
    landscape, seeds, numbers = RowBuffer(), RowBuffer(), SeedNumbers()
    prepared = _landscape_and_seeds(iter(bands), size, thresholds)
    objects: dict[int, ObjectParts] = {}
    complete: set[int] = set()
    for rows in _spans(size[0], block):
        while landscape.stop < min(rows.stop + halo, size[0]):
            maps, labels = next(prepared)
            above = seeds.last_row() if seeds.stop else None
            landscape.append(maps)
            seeds.append(numbers.add(labels, above))
        objects = renumber_parts(objects, numbers)
        bottom: set[int] = set()  # objects that may go on below
        for columns in _spans(size[1], block):
            ids = numbers.first(_segment_block(landscape, seeds, (rows, columns), size, halo, thresholds.foreground))
            foreground = landscape.window(rows, columns)[0]
            collect_parts(objects, complete, ids, foreground, (rows.start, columns.start))
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


def _spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
