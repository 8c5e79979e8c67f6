"""Instances from the maps of a head, by a watershed from the peaks of the distance maps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

TRUNCATE = 4.0  # the Gaussian is cut at so many of its sd


@dataclass(frozen=True)
class WatershedThresholds:
    """Thresholds on maps from 0 to 1, and the smallest object that is kept.

    foreground: an object's pixels lie above it
    height: how far the mean of center and boundary falls, at least, from an object's peak on the way to a higher peak
    smoothing: sd in pixels of the Gaussian that smooths this mean before · min_area: pixels
    """

    foreground: float = 0.5
    height: float = 0.15
    smoothing: float = 1.0
    min_area: int = 20


def segment_maps(maps: NDArray[np.float32], thresholds: WatershedThresholds) -> NDArray[np.int32]:
    """Separates the foreground into objects: at least one for each of its connected components.

    maps: (3, H, W) of `instance_maps` as predicted → (H, W) ids 1 to n, 0 background
    """
    ids, _ = flood(maps, thresholds)
    return without_small(ids, thresholds.min_area)


def flood(maps: NDArray[np.float32], thresholds: WatershedThresholds) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Objects of any size, with the first pixel of a peak of each.

    maps: (3, H, W) → (H, W) ids, in the order of these pixels; some numbers are left out · (n + 1,) positions of the
    pixels in the flat map, by id
    """
    foreground = maps[0] > thresholds.foreground
    landscape = ndimage.gaussian_filter((maps[1] + maps[2]) / 2, thresholds.smoothing, truncate=TRUNCATE)
    # Below the foreground, so that each of its components has a peak.
    raised = np.pad(np.where(foreground, landscape, np.float32(-1)), 1, constant_values=-1)
    tops = local_maxima(raised, connectivity=1)[1:-1, 1:-1] & foreground
    peaks, count = ndimage.label(tops)
    regions = watershed(-landscape, peaks, mask=foreground)
    places = np.zeros(count + 1, np.int64)
    flat = np.flatnonzero(peaks)[::-1]
    places[peaks.ravel()[flat]] = flat  # the first pixel of a peak is written last
    return _merge_low_peaks(regions, landscape, count, thresholds.height), places


def _merge_low_peaks(
    regions: NDArray[np.int32], landscape: NDArray[np.float32], count: int, height: float
) -> NDArray[np.int32]:
    """Joins the regions of peaks that rise less than `height` above the pass to a higher peak, to the smaller number.

    The height of a peak above its highest pass is its topological persistence (Edelsbrunner et al. 2002,
    https://doi.org/10.1007/s00454-002-2885-2); peaks with more of it are the h-maxima of the landscape.

    regions: (H, W) 1 to `count`, one peak each, 0 background · landscape: (H, W)
    """
    first, second, passes = _passes(regions, landscape, count)
    peaks = np.full(count + 1, -np.inf)
    np.maximum.at(peaks, regions.ravel(), landscape.ravel())
    own, tops = list(range(count + 1)), peaks.tolist()

    def find(number: int) -> int:
        while own[number] != number:
            own[number] = own[own[number]]
            number = own[number]
        return number

    # From the highest pass down, so that two regions meet with all that lies above the pass between them.
    order = np.argsort(-passes, kind="stable")
    for one, other, level in zip(first[order].tolist(), second[order].tolist(), passes[order].tolist(), strict=True):
        low, high = sorted((find(one), find(other)))
        if low != high and min(tops[low], tops[high]) - level < height:
            own[high], tops[low] = low, max(tops[low], tops[high])
    return np.array([find(number) for number in own], np.int32)[regions]


def _passes(
    regions: NDArray[np.int32], landscape: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The highest pass between each two regions that touch: (E,) the smaller number, the larger, and its level."""
    keys, levels = [], []
    for here, there in (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:]):
        one, other = regions[here], regions[there]
        border = (one != other) & (one > 0) & (other > 0)
        low, high = np.minimum(one[border], other[border]), np.maximum(one[border], other[border])
        keys.append(low.astype(np.int64) * (count + 1) + high)
        levels.append(np.minimum(landscape[here][border], landscape[there][border]))
    pairs, pair_of = np.unique(np.concatenate(keys), return_inverse=True)
    highest = np.full(len(pairs), -np.inf, np.float32)
    np.maximum.at(highest, pair_of, np.concatenate(levels))
    return pairs // (count + 1), pairs % (count + 1), highest


def without_small(ids: NDArray[Any], min_area: int) -> NDArray[np.int32]:
    """Drops objects of fewer pixels, and numbers the others anew in the same order: (H, W) → (H, W) int32."""
    areas = np.bincount(ids.ravel())
    kept = areas >= max(1, min_area)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[ids]
