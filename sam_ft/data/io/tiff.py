"""Reads pages of TIFFs with tifffile, without loss of bits."""

import logging
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_ft.utils.errors import DataError

MAGIC_NUMBERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # both byte orders, TIFF and BigTIFF
ALPHA = (1, 2)  # ExtraSamples of an alpha channel, premultiplied or not
LOSSLESS_IN_PILLOW = (np.uint16, np.int16, np.uint32, np.int32, np.float32)  # in files of one band
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations that need no conversion

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # odd metadata does not change a pixel


def is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in MAGIC_NUMBERS


def has_plain_values(tiff: tifffile.TiffPage) -> bool:
    """Whether the pixels are gray or RGB values of whole bytes, which need no conversion."""
    plain = tiff.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    return plain and isinstance(tiff.bitspersample, int) and tiff.bitspersample >= 8


def can_decompress(path: Path, tiff: tifffile.TiffPage) -> bool:
    """Whether tifffile can decompress the page; Pillow is the fallback.

    Raises: DataError where Pillow would lose bits.
    """
    if tiff.compression in tifffile.TIFF.DECOMPRESSORS:
        return True
    # Pillow can decompress JPEG and more, but keeps other types than bytes only in a single band.
    if tiff.dtype != np.uint8 and (tiff.samplesperpixel > 1 or tiff.dtype not in LOSSLESS_IN_PILLOW):
        codec = tifffile.COMPRESSION(tiff.compression).name
        raise DataError(
            f"{path}: {tiff.samplesperpixel} bands of {tiff.dtype} with {codec} compression need another package: "
            "pip install imagecodecs, or save the file without compression"
        )
    return False


def read_tiff_values(tiff: tifffile.TiffPage) -> NDArray:
    """(H, W) or (H, W, bands), as stored; a white-is-zero page is inverted."""
    values = tiff.asarray()
    if tiff.axes not in ("YX", "YXS", "SYX") or values.dtype.kind not in "uif":
        raise ValueError(f"its axes are {tiff.axes} and its values {values.dtype}; expected a plain image")
    if tiff.axes == "SYX":  # planar: one plane for each band
        values = np.moveaxis(values, 0, -1)
    # ~x of an unsigned number is its largest value minus x.
    inverted = tiff.photometric == WHITE_IS_ZERO and values.dtype.kind == "u"
    return np.invert(values) if inverted else values


def tiff_orientation(tiff: tifffile.TiffPage) -> int:
    return int(tiff.tags.valueof("Orientation", 1))
