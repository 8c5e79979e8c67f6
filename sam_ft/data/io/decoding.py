"""Decodes an image file in full: upright and with all bits of its values.

Pillow reads the formats that it keeps without loss. It silently cuts 16-bit colors to 8 bits, reads signed bytes as
unsigned and cannot open most TIFFs of several bands. So tifffile reads TIFFs, and OpenCV reads 16-bit color PNGs.
OpenCV gets bytes and never a path: it crashes on file names that are not UTF-8. It reads no JPEG: of a truncated one
it returns the upper half.
"""

import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sam_ft.data.io.arrays import ARRAYS, read_array
from sam_ft.data.io.nodata import nodata_of
from sam_ft.data.io.tiff import can_decompress, has_plain_values, is_tiff, tiff_orientation
from sam_ft.data.io.tiff_planes import Page, check_channels, check_page, open_tiff
from sam_ft.types import Size
from sam_ft.utils.errors import DataError
from sam_ft.utils.stand_ins import special_kind, stand_in

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


@dataclass(frozen=True)
class Header:
    """A file before decoding: its upright size, the type of one value, the EXIF orientation."""

    size: Size
    dtype: np.dtype
    orientation: int


def read_header(path: Path, page: Page = None, channels: Sequence[int] | None = None) -> Header:
    """The header, without decoding the pixels. Raises: DataError when it cannot be read."""
    with errors_as_data_error(path):
        if path.suffix.lower() in ARRAYS:
            values = read_array(path)
            return _header(values.shape[:2], values.dtype, 1)
        if is_tiff(path):
            with open_tiff(path, page, channels) as planes:
                tiff = planes.first
                # Pillow converts all other pages, such as palettes, to 8 bits.
                dtype = np.dtype(tiff.dtype if has_plain_values(tiff) else np.uint8)
                return _header((tiff.imagelength, tiff.imagewidth), dtype, tiff_orientation(tiff))
        with open_with_pillow(path, page) as image:
            check_channels(path, len(_color_mode(image)), channels)
            # Pillow's getexif decodes a PNG in full, since EXIF data may come last; the base class takes only what
            # came before the pixels.
            early = image.format == "PNG" and not _has_chunks_after_pixels(path)
            exif = Image.Image.getexif(image) if early else image.getexif()
            deep = image.mode.startswith("I") or is_deep_png(path)
            dtype = np.dtype(np.uint16 if deep else np.uint8)
            return _header((image.height, image.width), dtype, exif.get(ExifTags.Base.Orientation))


def decode(path: Path, page: Page = None, channels: Sequence[int] | None = None) -> Image.Image | NDArray:
    """All pixels of a file, turned upright by its EXIF orientation.

    page: of a file with several pages, counted from 0, or their projection; ignored for a single page
    channels: that are read, in this order; the result is then an array (H, W, channels)
    → a Pillow image where a value has 8 bits and colors may need conversion; otherwise values, (H, W) or (H, W, bands)
    with the alpha channel last. Raises: DataError when any part of the file cannot be decoded.
    """
    return decode_with_nodata(path, page, channels)[0]


def decode_with_nodata(
    path: Path, page: Page = None, channels: Sequence[int] | None = None
) -> tuple[Image.Image | NDArray, float | None]:
    """The same, and the value of pixels that hold no data, see `nodata_of`."""
    dtype: np.dtype = np.dtype(np.uint16)  # of PNGs with more than 8 bits
    nodata: float | None = None
    with errors_as_data_error(path):
        if path.suffix.lower() in ARRAYS:
            return read_array(path), None
        if is_tiff(path):
            with open_tiff(path, page, channels) as planes:
                tiff = planes.first
                nodata = nodata_of(tiff)
                if has_plain_values(tiff) and can_decompress(path, tiff):
                    values = planes.read() if channels is None else np.atleast_3d(planes.read())
                    return apply_orientation(values, tiff_orientation(tiff)), nodata
                dtype = np.dtype(tiff.dtype)
        with open_with_pillow(path, page) as image:
            image.load()  # `verify` passes truncated files
            if is_deep_png(path):
                values = _pick(path, _decode_deep_png(path), channels)
                return apply_orientation(values, image.getexif().get(ExifTags.Base.Orientation)), nodata
            # Pillow turns its own images; arrays are turned by `apply_orientation`.
            image = ImageOps.exif_transpose(image)
            if image.mode == "F" or image.mode.startswith("I"):
                # a TIFF's short or unsigned integers arrive as long signed ones
                return _pick(path, np.array(image).astype(dtype), channels), nodata
            if channels is not None:
                return _pick(path, np.array(image.convert(_color_mode(image))), channels), nodata
            return image, nodata


def _pick(path: Path, values: NDArray, channels: Sequence[int] | None) -> NDArray:
    """(H, W, channels) where some are chosen."""
    if channels is None:
        return values
    values = np.atleast_3d(values)
    check_channels(path, values.shape[-1], channels)
    return values[..., list(channels)]


def _color_mode(image: Image.Image) -> str:
    """The mode of its plain values: L, LA, RGB or RGBA."""
    if image.mode in ("1", "L", "F") or image.mode.startswith("I"):
        return "L"
    if image.mode in ("LA", "RGBA"):
        return image.mode
    return "RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB"


@contextmanager
def errors_as_data_error(path: Path) -> Iterator[None]:
    """Turns any exception about the file into a DataError. What is no file is not opened: it may wait for ever."""
    try:
        if (kind := special_kind(path)) is not None:
            raise DataError(f"{path}: is {kind}, not an image file; remove it, or rename it to another suffix")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata does not change a pixel
            # Pillow only warns at its limit of pixels, and raises at twice the limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: too large to read ({error}); cut it into tiles") from error
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except Exception as error:  # decoders raise many types: OSError, SyntaxError, struct.error, EOFError ...
        if (other := stand_in(_beginning(path))) is not None:
            raise DataError(f"{path}: {other}") from None
        raise DataError(
            f"{path}: cannot be read ({error}); check that the file is a complete image, or remove it"
        ) from error


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; something other than nothing where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(1024)
    except OSError:
        return b"?"


@contextmanager
def any_number_of_pixels() -> Iterator[None]:
    """Lifts Pillow's limit of pixels, where the memory that a file needs is bounded in another way."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def open_with_pillow(path: Path, page: Page) -> Iterator[Image.Image]:
    """The header of an image, or of the chosen page; the pixels are read when they are used."""
    with Image.open(path) as image:
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format != "MPO":  # MPO: a camera's JPEG with a preview
            image.seek(check_page(path, pages, page))
        yield image


def is_deep_png(path: Path) -> bool:
    """Whether a PNG has 16 bits and colors or alpha; Pillow would cut it to 8 bits."""
    with open(path, "rb") as file:
        head = file.read(26)  # signature 8, length 4, IHDR 4, width 4, height 4, bits, color type
    # RGB, gray with alpha, RGBA
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24] == 16 and head[25] in (2, 4, 6)


def _decode_deep_png(path: Path) -> NDArray:
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise OSError("its pixels are incomplete or damaged")
    return values[..., [2, 1, 0, 3][: values.shape[-1]]]  # OpenCV keeps blue first


def _has_chunks_after_pixels(png: Path) -> bool:
    """Whether a PNG has a chunk after its pixels (IDAT) besides the end."""
    with open(png, "rb") as file:
        file.seek(8)
        seen = b""
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND" or (seen == b"IDAT" and kind != b"IDAT"):
                return kind != b"IEND"
            seen = kind
            file.seek(length + 4, os.SEEK_CUR)  # its bytes and their checksum
    return True


def _header(stored: Size, dtype: np.dtype, orientation: int | None) -> Header:
    """stored: the size before it is turned upright."""
    return Header(stored[::-1] if orientation in SIDEWAYS else stored, dtype, orientation or 1)


def apply_orientation(values: NDArray, orientation: int | None) -> NDArray:
    """Turns and mirrors an array by its EXIF orientation; values other than 1 to 8 change nothing."""
    # EXIF 5 to 8 swap rows and columns first; then the rows, the columns or both are reversed.
    if orientation in SIDEWAYS:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
