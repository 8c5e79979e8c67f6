"""Distances between the outlines of two masks, in pixels of the original image."""

from math import hypot

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.metrics.crop import crop_to_union
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.geometry import distance_to_zero

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))  # a pixel and its 4 neighbors


class SurfaceDistance:
    """Normalized surface distance (nsd) and the 95th percentile of the Hausdorff distance (hd95).

    tolerance: in pixels of the original image, between pixel centers

    The outline of a mask is its pixels with a 4-neighbor outside it; the border of the image counts as outside. nsd is
    the fraction of both outlines within `tolerance` of the other (surface Dice, Nikolov et al. 2021,
    https://arxiv.org/abs/1809.04430), counted in pixels instead of lengths. hd95 is the larger of the two directed 95th
    percentiles, not the percentile of all distances pooled. Both as in MONAI. An empty prediction has no outline: its
    nsd is 0 and its hd95 is the image's diagonal, so that a mean over objects stays finite.

    Raises:
        ConfigError: tolerance is negative.
    """

    names = ("nsd", "hd95")
    monitors = ("nsd",)

    def __init__(self, tolerance: float = 2.0) -> None:
        if not tolerance >= 0:
            raise ConfigError(f"SurfaceDistance: tolerance={tolerance}; expected a number of pixels, at least 0")
        self.tolerance = tolerance

    def __call__(self, predicted: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """predicted, gt: (N, H, W) bool on the CPU → {"nsd", "hd95"}: (N,) float64"""
        pairs = zip(predicted.numpy(), gt.numpy(), strict=True)
        values = torch.tensor([self._nsd_and_hd95(*pair) for pair in pairs], dtype=torch.float64).reshape(-1, 2)
        return dict(zip(self.names, values.unbind(1), strict=True))

    def _nsd_and_hd95(self, predicted: NDArray[np.bool_], gt: NDArray[np.bool_]) -> tuple[float, float]:
        """predicted, gt: (H, W) bool of one object"""
        if not predicted.any():
            return 0.0, hypot(*gt.shape)
        predicted_edges, gt_edges = (mask_edges(mask) for mask in crop_to_union(predicted, gt))
        # From each predicted edge pixel to the gt's outline, and the reverse.
        directed = surface_distances(predicted_edges, gt_edges), surface_distances(gt_edges, predicted_edges)
        within = sum(np.count_nonzero(distances <= self.tolerance) for distances in directed)
        nsd = within / sum(len(distances) for distances in directed)
        return nsd, float(max(np.quantile(distances, 0.95) for distances in directed))


def mask_edges(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels of a mask with a 4-neighbor outside it; background surrounds the array.

    mask: (h, w) 0 or 1 → (h, w) bool
    """
    # The mask without its inside; border value 0 makes the image's border background.
    return mask > cv2.erode(mask, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def surface_distances(edges: NDArray[np.bool_], other: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The distance of each pixel of `edges` to the closest pixel of `other`.

    edges, other: (h, w) bool → (number of pixels in `edges`,) float64 in pixels
    """
    # computed in float32, where whole distances are exact, so `<= tolerance` is too
    return distance_to_zero((~other).astype(np.uint8))[edges].astype(np.float64)
