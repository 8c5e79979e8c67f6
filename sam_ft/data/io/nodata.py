"""Pixels of GeoTIFFs that hold no data: they count in no scale, no loss and no score."""

import math

import numpy as np
import tifffile
from numpy.typing import NDArray

GDAL_NODATA, GEO_KEYS = 42113, 34735  # tags: the value of such pixels as text; the keys of a GeoTIFF

MIN_SHARE = 0.005  # of the pixels: fewer are cut off by the percentiles
FAR = 64  # of 256 levels


def nodata_of(tiff: tifffile.TiffPage) -> float | None:
    """The value of pixels without data; NaN for a GeoTIFF that names none, None for other files."""
    text = str(tiff.tags.valueof(GDAL_NODATA, "")).strip("\0 ")
    try:
        return float(text)
    except ValueError:  # no tag, or no number
        return math.nan if text or GEO_KEYS in tiff.tags else None


def missing_pixels(values: NDArray, nodata: float | None) -> NDArray[np.bool_] | None:
    """The pixels with the value for no data in all bands, or with NaN in any; None if there are none.

    values: (H, W) or (H, W, bands), without alpha · → (H, W)
    """
    if nodata is None:
        return None
    bands = np.atleast_3d(values)
    missing = np.zeros(bands.shape[:2], bool)
    if bands.dtype.kind == "f":
        missing |= np.isnan(bands).any(-1)
        if math.isinf(nodata):
            missing |= (bands == nodata).all(-1)
        elif math.isfinite(nodata):  # the text may be rounded
            with np.errstate(over="ignore", invalid="ignore"):
                missing |= (np.abs(bands - bands.dtype.type(nodata)) <= 1e-5 * abs(nodata)).all(-1)
    elif nodata.is_integer():
        missing |= (bands == int(nodata)).all(-1)
    return missing if missing.any() else None


def missing_note(missing: NDArray[np.bool_]) -> tuple[str, str]:
    """Problem and advice of an `Issue`."""
    advice = "they are black, and count in no scale of intensities, no loss and no score"
    return f"has {missing.mean():.0%} of pixels without data (NaN, or the value of GDAL_NODATA)", advice


def extreme_note(image: NDArray[np.uint8], dtype: np.dtype) -> tuple[str, str] | None:
    """Problem and advice where one value is far from all others, as that of no data is where no tag names it.

    image: (H, W, 3) as it is read · dtype: of the file
    """
    if dtype == np.uint8:
        return None
    levels = np.bincount(image[..., 0].ravel(), minlength=256)
    ends = (("smallest", levels), ("largest", levels[::-1]))
    for name, counts in ends:
        if MIN_SHARE * levels.sum() <= counts[0] < levels.sum() and not counts[1:FAR].any():
            problem = f"has its {name} value in {counts[0] / levels.sum():.0%} of its pixels, far from all others"
            advice = (
                "if these hold no data, they spoil the scale of the others: name their value in the tag GDAL_NODATA, "
                "as by gdal_edit.py -a_nodata VALUE"
            )
            return problem, advice
    return None
