"""Converts a COCO segmentation (polygons, uncompressed or compressed RLE) to compressed RLE.

pycocotools.mask rasterizes polygons and reads run lengths, so masks equal those of other COCO tools.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.data.sources.coco_issues import InvalidEntry
from sam_ft.types import Size

MAX_COORDINATE = 1_000_000  # pixels
# Pixels along the outlines of an object. pycocotools takes 80 bytes for each, also outside of the image, and ends the
# process where their number overflows.
MAX_OUTLINE = 5_000_000
NORMALIZED = 1.5  # from here on, coordinates are pixels; below, most likely shares of width and height


def segmentation_to_rle(segmentation: Any, size: Size) -> dict[str, Any]:
    """Compressed RLE of one object, from its polygons or from an RLE.

    Raises: InvalidEntry. The check comes first, since the C code of pycocotools checks nothing.
    """
    if isinstance(segmentation, InvalidEntry):
        raise segmentation
    if not segmentation:
        raise InvalidEntry("have no segmentation (expected polygons or RLE; a box alone is not enough)")
    if isinstance(segmentation, dict):
        return _compress_rle(segmentation, size)
    if not isinstance(segmentation, list) or not all(isinstance(part, list | dict) for part in segmentation):
        raise InvalidEntry("have another segmentation than polygons [[x, y, x, y, ...], ...] or RLE {size, counts}")
    polygons = [_polygon(part) for part in segmentation if isinstance(part, list)]
    if sum(map(_outline_length, polygons)) > MAX_OUTLINE:
        raise InvalidEntry(f"have an outline of over {MAX_OUTLINE:,} pixels")
    # The parts of an object become one mask, their union.
    drawn = rle.frPyObjects(polygons, *size) if polygons else []
    mask = rle.merge([*drawn, *(_compress_rle(part, size) for part in segmentation if isinstance(part, dict))])
    if len(polygons) == len(segmentation) and not rle.area(mask) and all(_is_outside(part, size) for part in polygons):
        raise InvalidEntry("lie wholly outside their image (expected pixels from the top left corner)")
    return mask


def is_normalized(segmentation: Any) -> bool:
    """Whether the polygons of a valid segmentation seem to hold shares of width and height instead of pixels."""
    return isinstance(segmentation, list) and all(
        isinstance(part, list) and min(part) >= -0.5 and max(part) <= NORMALIZED for part in segmentation
    )


def _polygon(values: list) -> NDArray:
    polygon = _number_array(values)
    if polygon is None or not (np.abs(polygon) <= MAX_COORDINATE).all():
        raise InvalidEntry(
            "have a polygon with other things than numbers up to a million in it (expected [[x, y, x, y, ...], ...])"
        )
    if len(polygon) < 6 or len(polygon) % 2:
        raise InvalidEntry(
            "have a polygon of under 3 points or an odd number of coordinates (expected x, y, x, y, x, y, ...)"
        )
    return polygon


def _outline_length(polygon: NDArray) -> float:
    """Pixels along the outline, as pycocotools walks it."""
    longest = len(polygon) * float(np.abs(polygon).max())
    if longest < MAX_OUTLINE / 100:  # nearly always; the exact length takes three times as long
        return longest
    points = polygon.reshape(-1, 2)
    return float(np.abs(np.roll(points, -1, 0) - points).max(1).sum())


def _compress_rle(segmentation: dict[str, Any], size: Size) -> dict[str, Any]:
    counts, given = segmentation.get("counts"), segmentation.get("size")
    if given != list(size):
        raise InvalidEntry("have an RLE of another size than their image (expected [height, width])", given)
    if isinstance(counts, str):
        runs = decode_counts(counts.encode("utf-8", "replace"))
    else:
        runs = _number_array(counts) if isinstance(counts, list) else None
    pixels = size[0] * size[1]
    # A compressed RLE is decoded to be checked, since the C code of pycocotools checks nothing.
    if runs is None or runs.dtype.kind == "f" or (runs < 0).any() or (runs > pixels).any() or runs.sum() != pixels:
        raise InvalidEntry("have a damaged RLE (expected run lengths that add up to height * width)")
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode()}
    return rle.frPyObjects({"size": list(size), "counts": counts}, *size)


def decode_counts(text: bytes) -> NDArray[np.int64] | None:
    """The run lengths of a compressed RLE, or None if it is damaged.

    A number is a row of characters, each "0" plus 5 bits, lowest first, plus 32 if more follow; bit 4 of the last is
    the sign. From the fourth on, a number is the difference to the run two before. Source: rleToString in
    pycocotools' maskApi.c.
    """
    # Array operations on all characters at once, since a Python loop would be slow.
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - ord("0")
    if not len(digits) or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        return None
    last = digits & 32 == 0
    number = np.cumsum(last) - last  # index of the number that each digit belongs to
    first = np.flatnonzero(np.diff(number, prepend=-1))
    shift = 5 * (np.arange(len(digits)) - first[number])
    if shift.max() > 30:  # more than 7 digits, which no run has
        return None
    runs = np.add.reduceat((digits & 31) << shift, first)
    # The sign bit counts as minus 2 to the power of the number's bits (two's complement).
    runs -= ((digits[last] >> 4) & 1) << (shift[last] + 5)
    # Undoes the differences, which are to the run two before: odd and even runs apart.
    # The first three are stored as they are.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _is_outside(polygon: NDArray, size: Size) -> bool:
    x, y = polygon[::2], polygon[1::2]
    return bool(x.max() <= 0 or y.max() <= 0 or x.min() >= size[1] or y.min() >= size[0])


def _number_array(values: list) -> NDArray | None:
    """The values as an array of integers or floats, or None if they hold anything else."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        return None
    return array if array.ndim == 1 and array.dtype.kind in "iuf" else None


def is_near(box: Sequence[float], given: Any) -> bool:
    """Whether the box of an outline is nearly that of its annotation; both are x, y, width, height."""
    try:
        (x, y, w, h), (x2, y2, w2, h2) = box, map(float, given)
    except (TypeError, ValueError):  # no box to compare with
        return True
    edges = ((x, x2), (y, y2), (x + w, x2 + w2), (y + h, y2 + h2))
    return all(abs(own - other) <= 2 + max(w, h) / 4 for own, other in edges)
