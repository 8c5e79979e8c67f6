"""Reads an image of any format and bit depth as 8-bit RGB; `masks` reads masks.

The EXIF orientation is applied to image and mask alike, each by its own tag, so both are upright.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam_ft.data.io.decoding import decode, read_header
from sam_ft.data.io.tiff_planes import PROJECTIONS, Page
from sam_ft.types import Size
from sam_ft.utils.errors import ConfigError, DataError

READING = ("intensity", "page", "projection", "channels")  # the options of `read_image`
INTENSITIES = {  # how values other than unsigned 8 bits are scaled
    "percentile": "each image's own 0.5 and 99.5 percentile become 0 and 255",
    "range": "each image's own smallest and largest value become 0 and 255",
    "dtype": "the smallest and largest number of their type (0 and 1 of floats) become 0 and 255",
}


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
    path = Path(path)
    check_reading(intensity, page, projection, channels)
    picture = decode(path, projection or page, channels)
    if isinstance(picture, Image.Image):
        return to_rgb(path, picture)
    if channels is None:
        return as_rgb(_to_8_bits(path, without_alpha(picture), intensity))
    return as_rgb(np.dstack([_to_8_bits(path, band, intensity) for band in np.moveaxis(picture, -1, 0)]))


def _to_8_bits(path: Path, values: NDArray, intensity: str) -> NDArray[np.uint8]:
    """Values of any shape, with one scale for all of them."""
    if values.dtype == np.uint8:
        return values
    check_finite(path, int(np.count_nonzero(~np.isfinite(values))))
    own = float(values.min()), float(values.max())
    limits = intensity_limits(path, intensity, values.dtype, own, lambda q: np.percentile(values, q).tolist())
    return scale_to_8_bits(values, *limits)


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


def scale_to_8_bits(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """`low` becomes 0 and `high` 255; equal ones make all values 0."""
    if low == high:  # constant image
        return np.zeros(values.shape, np.uint8)
    # In place: an image of float64 is eight times as large as its result.
    scaled = values.astype(np.float64)
    scaled -= low
    scaled *= 255
    scaled /= high - low
    return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8)


def check_finite(path: Path, bad: int) -> None:
    """Refuses an image with values that are NaN or infinite. Raises: DataError"""
    if bad:
        raise DataError(f"{path}: {bad} of its values are NaN or infinite; replace them by numbers")


def intensity_limits(
    path: Path,
    intensity: str,
    dtype: np.dtype,
    own: tuple[float, float],
    percentiles: Callable[[Sequence[float]], Sequence[float]],
) -> tuple[float, float]:
    """The values that become 0 and 255.

    own: the smallest and the largest value of the image · percentiles: of its values; called only if they are needed

    Raises: DataError for floats that do not go from 0 to 1, with intensity="dtype".
    """
    if intensity == "percentile":
        low, high = percentiles((0.5, 99.5))
        return (low, high) if low < high else own  # nearly all pixels are background
    if intensity == "range":
        return own
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        return float(limits.min), float(limits.max)
    if own[0] < 0 or own[1] > 1:
        raise DataError(
            f"{path}: its values go from {own[0]:g} to {own[1]:g}, but data.intensity=dtype expects floats from 0 to "
            "1; scale them so, or set data.intensity=percentile"
        )
    return 0.0, 1.0
