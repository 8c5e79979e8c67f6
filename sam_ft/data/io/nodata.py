"""Pixels of GeoTIFFs that hold no data: they count in no scale, no loss and no score."""

import math

import numpy as np
import tifffile
from numpy.typing import NDArray

GDAL_NODATA, GEO_KEYS = 42113, 34735  # tags: the value of such pixels as text; the keys of a GeoTIFF


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
        if math.isfinite(nodata):  # the text may be rounded
            with np.errstate(over="ignore", invalid="ignore"):
                missing |= (np.abs(bands - bands.dtype.type(nodata)) <= 1e-5 * abs(nodata)).all(-1)
    elif nodata.is_integer():
        missing |= (bands == int(nodata)).all(-1)
    return missing if missing.any() else None


def missing_note(missing: NDArray[np.bool_]) -> tuple[str, str]:
    """Problem and advice of an `Issue`."""
    advice = "they are black, and count in no scale of intensities, no loss and no score"
    return f"has {missing.mean():.0%} of pixels without data (NaN, or the value of GDAL_NODATA)", advice
