"""Instances of an image whose maps do not fit into memory: the watershed of `segment_maps`, block by block.

A watershed runs in each block with a halo around it, and the block keeps the objects of which the first peak lies
inside. So blocks cut no object that the halo holds, and where it reaches from each object to those that touch it, the
objects are those of one watershed over the whole image.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_ft.instances.parts import ObjectCrop
from sam_ft.instances.row_buffer import RowBuffer
from sam_ft.instances.watershed import WatershedThresholds, flood
from sam_ft.types import Size


def segment_bands(
    bands: Iterable[NDArray[np.float32]], size: Size, thresholds: WatershedThresholds, halo: int, block: int
) -> Iterator[ObjectCrop]:
    """Separates the foreground into objects as `segment_maps` does, block by block.

    About block + 2 halo rows of the maps are in memory.

    bands: (3, rows, W) of the maps, from top to bottom · size: (H, W)
    halo: pixels around a block, at least as many as the longest side of an object; of longer ones parts are lost
    block: side in pixels
    """
    maps, arriving = RowBuffer(), iter(bands)
    for rows in spans(size[0], block):
        while maps.stop < min(rows.stop + halo, size[0]):
            maps.append(next(arriving))
        for columns in spans(size[1], block):
            yield from _objects_of_block(maps, (rows, columns), size, thresholds, halo)
        maps.drop(rows.stop - halo)


def _objects_of_block(
    maps: RowBuffer, block: tuple[slice, slice], size: Size, thresholds: WatershedThresholds, halo: int
) -> Iterator[ObjectCrop]:
    """The objects of which the first peak lies in a block."""
    top, left = (max(span.start - halo, 0) for span in block)
    bottom, right = (min(span.stop + halo, length) for span, length in zip(block, size, strict=True))
    around = maps.window(slice(top, bottom), slice(left, right))
    ids, places = flood(around, thresholds)
    rows, columns = np.divmod(places, ids.shape[1])
    rows, columns = rows + top, columns + left
    inside = (block[0].start <= rows) & (rows < block[0].stop) & (block[1].start <= columns) & (columns < block[1].stop)
    for number, box in enumerate(ndimage.find_objects(ids), 1):
        if box is None or not inside[number]:
            continue
        mask = ids[box] == number
        if mask.sum() >= thresholds.min_area:
            mean = float(around[0][box][mask].mean(dtype=np.float64))
            order = int(rows[number]) * size[1] + int(columns[number])
            yield ObjectCrop(order, left + box[1].start, top + box[0].start, mask, mean)


def spans(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
