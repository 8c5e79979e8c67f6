"""Scales the values of images with more than 8 bits to 8 bits."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.utils.errors import DataError

HUGE = 1e300  # 255 times the range of larger values may be infinite
INTENSITIES = {  # how values other than unsigned 8 bits are scaled
    "percentile": "each image's own 0.5 and 99.5 percentile become 0 and 255",
    "range": "each image's own smallest and largest value become 0 and 255",
    "dtype": "the smallest and largest number of their type (0 and 1 of floats) become 0 and 255",
}


def rescale(path: Path, values: NDArray, intensity: str, missing: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Values with one scale for all of them; missing pixels are black.

    values: (H, W) or (H, W, bands); unsigned ones of 8 bits stay · missing: (H, W), which count in no scale
    """
    if values.dtype == np.uint8:
        return values
    known = values if missing is None else values[~missing]
    if not known.size:
        return np.zeros(values.shape, np.uint8)
    check_finite(path, int(np.count_nonzero(~np.isfinite(known))))
    own = float(known.min()), float(known.max())
    limits = intensity_limits(path, intensity, values.dtype, own, lambda q: np.percentile(known, q).tolist())
    return scale_to_8_bits(values, *limits, missing)


def scale_to_8_bits(
    values: NDArray, low: float, high: float, missing: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """`low` becomes 0 and `high` 255; equal ones make all values 0, and so are missing pixels."""
    if low == high:  # constant image
        return np.zeros(values.shape, np.uint8)
    # In place: an image of float64 is eight times as large as its result.
    scaled = values.astype(np.float64)
    if missing is not None:
        scaled[missing] = low
    if max(abs(low), abs(high)) > HUGE:
        np.clip(scaled, low, high, out=scaled)
        scaled, low, high = scaled / HUGE, low / HUGE, high / HUGE
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
