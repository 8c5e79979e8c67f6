"""Masks that went through JPEG, lossy WebP or a smooth resize."""

import os
import struct
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_ft.data.io.appearance import Remark
from sam_ft.data.io.decoding import errors_as_data_error
from sam_ft.data.io.tiff import MAGIC_NUMBERS
from sam_ft.utils.errors import DataError

JPEG_COMPRESSIONS = (6, 7)  # of TIFFs
JPEG_ERROR = 15  # largest change of black and white areas by JPEG and WebP; it is 5 at quality 10
LOSSY = Remark(
    "is lossy",
    "are lossy",
    "gray edges, as JPEG leaves them; they are cut at half of the range (value > 127)",
    "better save masks as PNG",
    "warning",
)


def lossy_codec(path: Path) -> str | None:
    """The codec of a file if it changes pixel values, whatever the suffix. Raises: DataError for what is no file."""
    with errors_as_data_error(path), open(path, "rb") as file:
        head = file.read(12)
        if head.startswith(b"\xff\xd8\xff"):
            return "JPEG"
        if head[:4] == b"RIFF" and head[8:] == b"WEBP":
            return "lossy WebP" if _has_lossy_chunk(file) else None
        if head[:4] not in MAGIC_NUMBERS:
            return None
        with tifffile.TiffFile(path) as tiff:
            return "JPEG" if tiff.pages.first.compression in JPEG_COMPRESSIONS else None


def _has_lossy_chunk(webp: IO[bytes]) -> bool:
    """Whether one of the chunks after the head is VP8 and not VP8L; a frame of an animation holds chunks of its own."""
    while len(head := webp.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind == b"VP8 ":
            return True
        webp.seek(16 if kind == b"ANMF" else length + length % 2, os.SEEK_CUR)
    return False


def refuse_lossy(path: Path, why: str) -> None:
    """Raises: DataError for a file of a codec that changes pixel values."""
    if (codec := lossy_codec(path)) is not None:
        raise DataError(f"{path}: {codec} changes pixel values, so {why}")


def is_nearly_gray(rgb: NDArray[np.integer]) -> bool:
    """Whether colors (H, W, 3) of 8 bits are gray but for what a lossy codec changes."""
    return rgb.dtype == np.uint8 and bool((rgb.max(-1) - rgb.min(-1) <= JPEG_ERROR).all())


def is_lossy(values: NDArray[np.integer], by_codec: bool) -> bool:
    """Whether a binary mask went through a lossy codec or a smooth resize: it has other values, but only along edges.

    Ids of classes or instances fill areas, so most of their in-between pixels equal the neighbors to the right and
    below; along a blurred edge few do. A gray picture has more in-between pixels than white ones. A codec changes
    black to values near 0, of which an empty mask has one. In other formats a value such as 1 may be an id, unless
    there are gray edges, as in a JPEG that was saved again.

    by_codec: whether the file has a lossy codec
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255 or (high < 255 - JPEG_ERROR and not (by_codec and low == high <= JPEG_ERROR)):
        return False
    # The most frequent value near 0 is the black of a JPEG.
    black = int(np.bincount(values.ravel().astype(np.uint8), minlength=JPEG_ERROR + 1)[: JPEG_ERROR + 1].argmax())
    white, between = (values >= 192).sum(), ((values >= 64) & (values < 192)).sum()
    gray = (values > JPEG_ERROR) & (values < 255 - JPEG_ERROR)
    if not gray.any():
        black = 0
    # Pixels in between, and those that equal both neighbors: areas, which a blurred edge lacks.
    soft = (gray if by_codec else gray | ((values <= JPEG_ERROR) & (values != black)))[:-1, :-1]
    same = (values[:-1, :-1] == values[1:, :-1]) & (values[:-1, :-1] == values[:-1, 1:])
    return bool(between <= white and (soft & same).sum() <= soft.sum() / 2)
