"""One annotation's segmentation, of whichever kind COCO has, becomes run lengths (RLE), or it is said why not.

pycocotools.mask draws polygons and reads run lengths, so a mask is what every COCO tool sees.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.types import Size

FARTHEST = 1_000_000  # pixels: pycocotools takes memory for each pixel of an outline, also outside the image


class Fault(ValueError):
    """Why an image or annotation cannot be used, in words that follow "annotations that"; `detail` is of this one."""

    def __init__(self, what: str, detail: object = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail


def encode(segmentation: Any, size: Size) -> dict[str, Any]:
    """A mask as pycocotools' compressed RLE, of polygons (parts of one object) or of an RLE of either kind.

    Raises: Fault, before pycocotools meets it: its C code trusts what it gets.
    """
    if not segmentation:
        raise Fault("have no segmentation (expected polygons or RLE; a box alone is not enough)")
    if isinstance(segmentation, dict):
        return _encode_rle(segmentation, size)
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        raise Fault("have another segmentation than polygons [[x, y, x, y, ...], ...] or RLE {size, counts}")
    parts = [array for part in segmentation if (array := _numbers(part)) is not None]
    if len(parts) < len(segmentation) or not all((np.abs(part) <= FARTHEST).all() for part in parts):
        raise Fault("have a polygon with other things than numbers in it (or numbers beyond a million)")
    if any(len(part) < 6 or len(part) % 2 for part in parts):
        raise Fault("have a polygon of under 3 points or an odd number of coordinates (expected x, y, x, y, x, y, ...)")
    mask = rle.merge(rle.frPyObjects(parts, *size))
    if not rle.area(mask) and all(_is_outside(part, size) for part in parts):
        raise Fault("lie wholly outside their image (expected pixels from the top left corner)")
    return mask


def _encode_rle(segmentation: dict[str, Any], size: Size) -> dict[str, Any]:
    counts, given = segmentation.get("counts"), segmentation.get("size")
    if given != list(size):
        raise Fault("have an RLE of another size than their image (expected [height, width])", given)
    if isinstance(counts, str):
        runs = _spelled_runs(counts.encode("utf-8", "replace"))
    else:
        runs = _numbers(counts) if isinstance(counts, list) else None
    pixels = size[0] * size[1]
    if runs is None or runs.dtype.kind == "f" or (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise Fault("have a damaged RLE (expected run lengths that add up to height * width)")
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode()}
    return rle.frPyObjects({"size": list(size), "counts": counts}, *size)


def _spelled_runs(text: bytes) -> NDArray[np.int64] | None:
    """The run lengths that a compressed RLE spells, None if it is no such thing.

    A number is a row of characters, each "0" plus 5 bits, lowest first, plus 32 if more follow; bit 4 of the last is
    the sign. From the fourth number on it is the difference to the run two before. Source: rleToString in
    pycocotools' maskApi.c.
    """
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - ord("0")
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return None
    last = digits & 32 == 0
    number = np.cumsum(last) - last  # which one each digit belongs to
    first = np.flatnonzero(np.diff(number, prepend=-1))
    shift = 5 * (np.arange(len(digits)) - first[number])
    if shift.max() > 30:
        return None
    runs = np.add.reduceat((digits & 31) << shift, first)
    runs -= ((digits[last] >> 4) & 1) << (shift[last] + 5)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _is_outside(polygon: NDArray, size: Size) -> bool:
    x, y = polygon[::2], polygon[1::2]
    return bool(x.max() <= 0 or y.max() <= 0 or x.min() >= size[1] or y.min() >= size[0])


def _numbers(values: list) -> NDArray | None:
    """The values as an array of integers or floats, None if there are other things among them."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return array if array.ndim == 1 and array.dtype.kind in "iuf" else None
