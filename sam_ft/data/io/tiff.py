"""Reads TIFFs with tifffile: pages, bands, and values without loss of bits."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sam_ft.utils.errors import DataError

MAGIC_NUMBERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # both byte orders, TIFF and BigTIFF
ALPHA = (1, 2)  # ExtraSamples of an alpha channel, premultiplied or not
LOSSLESS_IN_PILLOW = (np.uint16, np.int16, np.uint32, np.int32, np.float32)  # in files of one band
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations that need no conversion

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # odd metadata does not change a pixel


def is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in MAGIC_NUMBERS


@contextmanager
def open_tiff_page(path: Path, page: int | None) -> Iterator[tifffile.TiffPage]:
    """The header of the chosen page.

    Raises: DataError for an unsupported number of bands; Pillow's error for more pixels than its limit.
    """
    with tifffile.TiffFile(path) as file:
        pages = len(file.pages)
        # Only the header is read; `read_tiff_values` reads the pixels.
        tiff = file.pages[check_page(path, pages, page) if pages > 1 else 0]
        assert isinstance(tiff, tifffile.TiffPage)
        bands, pixels = tiff.samplesperpixel, tiff.imagelength * tiff.imagewidth
        if not (bands in (1, 3, 4) or (bands == 2 and tiff.extrasamples[:1] and tiff.extrasamples[0] in ALPHA)):
            raise DataError(f"{path}: has {bands} bands; expected 1 (gray), 3 (RGB), or either with an alpha channel")
        if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{pixels} pixels exceed the limit of {Image.MAX_IMAGE_PIXELS}")
        yield tiff


def check_page(path: Path, pages: int, page: int | None) -> int:
    """The chosen page. Raises: DataError when none was chosen, or it does not exist."""
    if page is None:
        raise DataError(
            f"{path}: holds {pages} pages; expected one. Save one page as a file of its own, or choose the same page "
            "of all files with data.page, counted from 0"
        )
    if page >= pages:
        raise DataError(f"{path}: holds {pages} pages, so data.page={page} does not exist; pages are counted from 0")
    return page


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
