"""Instances from the maps of a head, by a seeded watershed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

TRUNCATE = 4.0  # the Gaussian is cut at so many of its sd


@dataclass(frozen=True)
class WatershedThresholds:
    """Thresholds on maps from 0 to 1, and the smallest object that is kept.

    center, boundary: a seed lies above both · foreground: an object's pixels lie above it
    smoothing: sd in pixels of the Gaussian that smooths center and boundary before · min_area: pixels
    """

    foreground: float = 0.5
    center: float = 0.5
    boundary: float = 0.3
    smoothing: float = 1.0
    min_area: int = 10


def segment_maps(maps: NDArray[np.float32], thresholds: WatershedThresholds) -> NDArray[np.int32]:
    """Separates the foreground into objects: one for each connected component of seeds.

    maps: (3, H, W) of `instance_maps` as predicted → (H, W) ids 1 to n, 0 background
    """
    boundary, seeds = boundary_and_seeds(maps, thresholds)
    numbered, _ = ndimage.label(seeds)
    ids = watershed(-boundary, numbered, mask=maps[0] > thresholds.foreground)
    return without_small(ids, thresholds.min_area)


def boundary_and_seeds(
    maps: NDArray[np.float32], thresholds: WatershedThresholds
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The smoothed boundary map, and the pixels of seeds: (3, H, W) → (H, W) each."""
    center, boundary = (ndimage.gaussian_filter(one, thresholds.smoothing, truncate=TRUNCATE) for one in maps[1:])
    seeds = (center > thresholds.center) & (boundary > thresholds.boundary) & (maps[0] > thresholds.foreground)
    return boundary, seeds


def without_small(ids: NDArray[Any], min_area: int) -> NDArray[np.int32]:
    """Drops objects of fewer pixels, and numbers the others anew in the same order: (H, W) → (H, W) int32."""
    areas = np.bincount(ids.ravel())
    kept = areas >= min_area
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[ids]
