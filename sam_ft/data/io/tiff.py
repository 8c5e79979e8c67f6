"""TIFFs through tifffile: which page, how many bands, and whether their values can be taken as they are."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sam_ft.utils.errors import DataError

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # either byte order, up to 4 GB or more
ALPHA = (1, 2)  # ExtraSamples that are an alpha channel, multiplied into the colors or not
KEPT_BY_PILLOW = (np.uint16, np.int16, np.uint32, np.int32, np.float32)  # in files of one band
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2  # photometric interpretations that need no conversion

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # odd metadata, which does not change a pixel


def is_tiff(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in STARTS


@contextmanager
def opened_tiff(path: Path, page: int | None) -> Iterator[tifffile.TiffPage]:
    """The header of the page that is meant.

    Raises: DataError for a number of bands that is no image; Pillow's error for more pixels than its limit.
    """
    with tifffile.TiffFile(path) as file:
        pages = len(file.pages)
        tiff = file.pages[chosen_page(path, pages, page) if pages > 1 else 0]
        assert isinstance(tiff, tifffile.TiffPage)
        bands, pixels = tiff.samplesperpixel, tiff.imagelength * tiff.imagewidth
        if not (bands in (1, 3, 4) or (bands == 2 and tiff.extrasamples[:1] and tiff.extrasamples[0] in ALPHA)):
            raise DataError(f"{path}: has {bands} bands; expected 1 (gray), 3 (RGB), or either with an alpha channel")
        if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{pixels} pixels exceed the limit of {Image.MAX_IMAGE_PIXELS}")
        yield tiff


def chosen_page(path: Path, pages: int, page: int | None) -> int:
    """Raises: DataError when none was chosen, or one that is not there."""
    if page is None:
        raise DataError(
            f"{path}: holds {pages} pages; expected one. Save the page that is meant as a file of its own, or choose "
            "the same one of all files with data.page, counted from 0"
        )
    if page >= pages:
        raise DataError(f"{path}: holds {pages} pages, so there is no data.page={page}; the first one is 0")
    return page


def is_numbers(tiff: tifffile.TiffPage) -> bool:
    """Whether the pixels are gray or RGB values of whole bytes: nothing to convert."""
    plain = tiff.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    return plain and isinstance(tiff.bitspersample, int) and tiff.bitspersample >= 8


def has_codec(path: Path, tiff: tifffile.TiffPage) -> bool:
    """Whether tifffile can decompress the page; where it cannot, Pillow may.

    Raises: DataError where Pillow would not keep all bits.
    """
    if tiff.compression in tifffile.TIFF.DECOMPRESSORS:
        return True
    if tiff.dtype != np.uint8 and (tiff.samplesperpixel > 1 or tiff.dtype not in KEPT_BY_PILLOW):
        codec = tifffile.COMPRESSION(tiff.compression).name
        raise DataError(
            f"{path}: {tiff.samplesperpixel} bands of {tiff.dtype} with {codec} compression need another package: "
            "pip install imagecodecs, or save the file without compression"
        )
    return False


def tiff_values(tiff: tifffile.TiffPage) -> NDArray:
    """(H, W) or (H, W, bands) as they are stored, but with more for brighter."""
    values = tiff.asarray()
    if tiff.axes not in ("YX", "YXS", "SYX") or values.dtype.kind not in "uif":
        raise ValueError(f"its axes are {tiff.axes} and its values {values.dtype}; expected a plain image")
    if tiff.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    inverted = tiff.photometric == WHITE_IS_ZERO and values.dtype.kind == "u"
    return np.invert(values) if inverted else values


def tiff_orientation(tiff: tifffile.TiffPage) -> int:
    return int(tiff.tags.valueof("Orientation", 1))
