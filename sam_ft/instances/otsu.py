"""A baseline without learning: Otsu's threshold, and a watershed on the distance to the background."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from sam_ft.instances.watershed import without_small


@dataclass(frozen=True)
class OtsuOptions:
    """smoothing: sd of the Gaussian on the image, in pixels · distance: between two centers · min_area: pixels"""

    smoothing: float = 1.0
    distance: int = 6
    min_area: int = 20


def segment_otsu(image: NDArray[np.uint8], options: OtsuOptions) -> NDArray[np.int32]:
    """Objects of an image that differ from their background in brightness: (H, W, 3) uint8 → (H, W) ids, 0 background.

    The background is the side of the threshold that holds most of the pixels at the image border. Touching objects are
    separated by a watershed from the peaks of the distance to the background (Vincent and Soille 1991).
    """
    gray = ndimage.gaussian_filter(image.mean(axis=2, dtype=np.float32), options.smoothing)
    if gray.min() == gray.max():
        return np.zeros(gray.shape, np.int32)
    bright = gray > threshold_otsu(gray)
    border = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    foreground = ~bright if border.mean() > 0.5 else bright
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground).astype(np.float32), 1.0)
    components, _ = ndimage.label(foreground)
    peaks = peak_local_max(depth, min_distance=options.distance, labels=components)
    seeds: NDArray[Any] = np.zeros(gray.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return without_small(watershed(-depth, seeds, mask=foreground), options.min_area)
