"""Masks that went through JPEG or a smooth resize."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.data.io.appearance import Remark
from sam_ft.utils.errors import DataError

JPEG_ERROR = 15  # largest change of black and white areas by JPEG; it is 5 at quality 10
LOSSY = Remark(
    "is lossy",
    "are lossy",
    "gray edges, as JPEG leaves them; they are cut at half of the range (value > 127)",
    "better save masks as PNG",
    "warning",
)


def is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".jfif")


def refuse_jpeg(path: Path, why: str) -> None:
    """Raises: DataError"""
    if is_jpeg(path):
        raise DataError(f"{path}: JPEG changes pixel values, so {why}")


def is_lossy(values: NDArray[np.integer], jpeg: bool) -> bool:
    """Whether a binary mask went through JPEG or a smooth resize: it has in-between values, but only along edges.

    Ids of classes or instances fill areas, so most of their in-between pixels equal the neighbors to the right and
    below; along a blurred edge few do. A gray picture has more in-between pixels than white ones. JPEG rounds all
    black areas to one value near 0, which is the only value of an empty mask. In other formats a value such as 1 may
    be an id, unless there are gray edges.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255 or (high < 255 - JPEG_ERROR and not (jpeg and low == high <= JPEG_ERROR)):
        return False
    # The most frequent value near 0 is the black of this JPEG.
    black = int(np.bincount(values.ravel().astype(np.uint8), minlength=JPEG_ERROR + 1)[: JPEG_ERROR + 1].argmax())
    white, between = (values >= 192).sum(), ((values >= 64) & (values < 192)).sum()
    gray = (values > JPEG_ERROR) & (values < 255 - JPEG_ERROR)
    if not (jpeg or gray.any()):
        black = 0
    # Pixels in between, and those that equal both neighbors: areas, which a blurred edge lacks.
    soft = (gray | ((values <= JPEG_ERROR) & (values != black)))[:-1, :-1]
    same = (values[:-1, :-1] == values[1:, :-1]) & (values[:-1, :-1] == values[:-1, 1:])
    return bool(between <= white and (soft & same).sum() <= soft.sum() / 2)
