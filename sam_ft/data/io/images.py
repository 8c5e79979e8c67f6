"""Reads an image of any format and bit depth as 8-bit RGB; `masks` reads masks.

The EXIF orientation is applied to image and mask alike, each by its own tag, so both are upright.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam_ft.data.io.decoding import decode_with_nodata, errors_as_data_error, read_header
from sam_ft.data.io.intensities import INTENSITIES, rescale
from sam_ft.data.io.nodata import missing_pixels, nodata_of
from sam_ft.data.io.tiff import is_tiff
from sam_ft.data.io.tiff_planes import PROJECTIONS, Page, open_tiff
from sam_ft.types import Size
from sam_ft.utils.errors import ConfigError, DataError

READING = ("intensity", "page", "projection", "channels")  # the options of `read_image`


def read_image(
    path: str | Path,
    intensity: str = "percentile",
    page: int | None = None,
    projection: str | None = None,
    channels: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """An image of any color mode as RGB, without alpha, upright by its EXIF orientation: as training reads it.

    intensity: how values other than unsigned 8 bits are scaled, with one scale for all channels of an image:
        "percentile", "range" or "dtype", see `INTENSITIES`
    page: of a file with several pages, counted from 0; of a stack whose metadata name the axes, a slice
    projection: instead of a page, the "max" or "mean" of all of them
    channels: one to three of the file's channels, counted from 0: one as gray, two as red and green, three as RGB; each
        of more than 8 bits is then scaled by itself

    → (H, W, 3) uint8

    Raises:
        DataError: the file cannot be decoded in full, or its values cannot be scaled.
        ConfigError: an option has another value.
    """
    return read_image_with_missing(path, intensity, page, projection, channels)[0]


def read_image_with_missing(
    path: str | Path,
    intensity: str = "percentile",
    page: int | None = None,
    projection: str | None = None,
    channels: Sequence[int] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The same, and the pixels of a GeoTIFF that hold no data: (H, W), or None if there are none."""
    path = Path(path)
    check_reading(intensity, page, projection, channels)
    picture, nodata = decode_with_nodata(path, projection or page, channels)
    values = _without_alpha(picture, channels)
    missing = missing_pixels(values, nodata)
    if isinstance(picture, Image.Image):
        return to_rgb(path, picture), missing
    if channels is None:
        return as_rgb(rescale(path, values, intensity, missing)), missing
    bands = [rescale(path, band, intensity, missing) for band in np.moveaxis(values, -1, 0)]
    return as_rgb(np.dstack(bands)), missing


def read_missing(path: Path, page: Page = None, channels: Sequence[int] | None = None) -> NDArray[np.bool_] | None:
    """The pixels of an image that hold no data; only files that may have some are decoded."""
    with errors_as_data_error(path):
        if not is_tiff(path):
            return None
        with open_tiff(path, page, channels) as planes:
            if nodata_of(planes.first) is None:
                return None
    picture, nodata = decode_with_nodata(path, page, channels)
    return missing_pixels(_without_alpha(picture, channels), nodata)


def _without_alpha(picture: Image.Image | NDArray, channels: Sequence[int] | None) -> NDArray:
    return np.asarray(picture) if channels is not None else without_alpha(np.asarray(picture))


def as_rgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) of one band, which is gray, of two, which are red and green, or of three."""
    bands = values.shape[-1]
    return np.dstack([values, np.zeros_like(values[..., :1])]) if bands == 2 else np.repeat(values, 3 // bands, axis=-1)


def check_reading(
    intensity: str, page: int | None, projection: str | None = None, channels: Sequence[int] | None = None
) -> None:
    """Refuses other values of these options of `read_image`. Raises: ConfigError"""
    if intensity not in INTENSITIES:
        raise ConfigError(f"data.intensity={intensity} is not known; expected one of {', '.join(INTENSITIES)}")
    if page is not None and (type(page) is not int or page < 0):  # true is an int to Python
        raise ConfigError(f"data.page={page}; expected a page counted from 0, or null")
    if projection is not None and projection not in PROJECTIONS:
        raise ConfigError(
            f"data.projection={projection} is not known; expected one of {', '.join(PROJECTIONS)}, or null"
        )
    if projection is not None and page is not None:
        raise ConfigError(
            f"data.page={page} and data.projection={projection} exclude each other; set one of them to null"
        )
    if channels is None:
        return
    numbers = list(channels) if isinstance(channels, Sequence) and not isinstance(channels, str) else []
    if not 1 <= len(numbers) <= 3 or not all(type(number) is int and number >= 0 for number in numbers):
        raise ConfigError(f"data.channels={channels}; expected one to three channels counted from 0, as [0,2], or null")


def read_size(path: Path, page: Page = None, channels: Sequence[int] | None = None) -> Size:
    """The size of `read_image`, without decoding the pixels."""
    return read_header(path, page, channels).size


def image_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) → (3, H, W) uint8, contiguous."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def to_rgb(path: Path, picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of an image with 8 bits per value."""
    try:
        if "transparency" in picture.info:
            picture = picture.convert("RGBA")  # otherwise Pillow warns that it ignores the transparency
        return np.array(picture.convert("RGB"))
    except ValueError as error:
        raise DataError(f"{path}: its colors cannot be read ({error}); save it as RGB") from error


def without_alpha(values: NDArray) -> NDArray:
    """(H, W) or (H, W, bands), colors or gray, then perhaps alpha → (H, W, 3) or (H, W, 1)"""
    values = np.atleast_3d(values)
    return values[..., :3] if values.shape[-1] >= 3 else values[..., :1]
