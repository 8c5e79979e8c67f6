"""Tells a picture from a mask: the values of a mask fill areas."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.utils.errors import DataError

MANY_IDS = 32  # fewer may be classes, each with many separate areas
PIECES = 4  # connected areas of a value on average; objects that others cover in part have up to two
PIECE_AREA = 8  # px of a connected area on average; those of pictures have about two, those of crossing fibers more
SMALLEST_AREA = 4  # px of a value on average, where there are more than `MOST_SMALL` values
MOST_SMALL = 1000
ROWS = 32  # pairs of rows that are looked at


def refuse_picture(path: Path, values: NDArray[np.integer]) -> None:
    """Refuses a file of many values that are scattered over the image. Raises: DataError

    values: (H, W), 0 for the background
    """
    pieces = count_pieces(values)
    if pieces < PIECES * MANY_IDS:
        return
    areas = _areas(values)
    count, pixels = len(areas), int(areas.sum())
    # Of a mask with gray edges, which is refused for these, most of the object has one value.
    if count < MANY_IDS or 2 * int(areas.max()) > pixels:
        return
    scattered = pieces > PIECES * count and pixels < PIECE_AREA * pieces
    if scattered or (count > MOST_SMALL and pixels < SMALLEST_AREA * count):
        raise DataError(
            f"{path}: the mask has {count} values besides 0 in about {max(pieces, count)} separate pieces, as a "
            "picture has; expected one value for each object or class. Images and masks may be swapped: check "
            "data.image_folder and data.mask_folder, or the columns of the table. Or the edges are blended, as smooth "
            "resizing leaves them: save the mask by nearest-neighbor interpolation"
        )


def count_pieces(values: NDArray[np.integer]) -> int:
    """About the number of connected areas of equal value other than 0, from a part of the rows of a large image."""
    height = len(values)
    top = int(np.count_nonzero((np.diff(values[0], prepend=0) != 0) & (values[0] != 0)))
    if height < 2:
        return top
    rows = np.unique(np.linspace(1, height - 1, ROWS).astype(int))
    row, above = values[rows], np.pad(values[rows - 1], ((0, 0), (1, 1)))
    joined = (row == above[:, 1:-1]) | (row == above[:, :-2]) | (row == above[:, 2:])
    starts = np.ones(row.shape, bool)
    starts[:, 1:] = row[:, 1:] != row[:, :-1]
    places = np.flatnonzero(starts)
    # A run of equal pixels begins an area if no pixel above it has its value.
    first = (row.ravel()[places] != 0) & ~np.logical_or.reduceat(joined.ravel(), places)
    return top + round(np.count_nonzero(first) * (height - 1) / len(rows))


def _areas(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """The number of pixels of each value that is there, without 0."""
    if values.dtype.kind == "u" and values.itemsize <= 2:
        counts = np.bincount(values.ravel())[1:]
        return counts[counts > 0]
    found, counts = np.unique(values, return_counts=True)
    return counts[found != 0]
