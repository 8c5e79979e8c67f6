"""How far the outlines of two masks are from each other, in pixels of the original image."""

from math import hypot

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.metrics.cutout import cut_out
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.geometry import distance_to_zero

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


class SurfaceDistance:
    """nsd: the share of both outlines within `tolerance` of the other one · hd95: how far off all but 5 % of them are.

    tolerance: in pixels of the original image, from center to center

    An outline are the pixels of a mask with a neighbor, above, below or beside, that is not in it; the border of the
    image counts as one. nsd is the normalized surface distance (Nikolov et al. 2021,
    https://arxiv.org/abs/1809.04430) with pixels counted instead of lengths; hd95 is the 95th percentile of the
    distances from one outline to the other, the larger of both ways (not of all distances together, as some take it).
    Both as MONAI computes them. An empty prediction has no outline: its nsd is 0 and its hd95 the image's diagonal,
    so that a mean over objects stays finite.

    Raises:
        ConfigError: tolerance is negative.
    """

    names = ("nsd", "hd95")
    monitors = ("nsd",)

    def __init__(self, tolerance: float = 2.0) -> None:
        if not tolerance >= 0:
            raise ConfigError(f"SurfaceDistance: tolerance={tolerance}; expected a number of pixels, at least 0")
        self.tolerance = tolerance

    def __call__(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """predicted, true: (N, H, W) bool on the CPU → {"nsd", "hd95"}: (N,) float64"""
        pairs = zip(predicted.numpy(), true.numpy(), strict=True)
        values = torch.tensor([self._measure(*pair) for pair in pairs], dtype=torch.float64).reshape(-1, 2)
        return dict(zip(self.names, values.unbind(1), strict=True))

    def _measure(self, predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[float, float]:
        """(H, W) bool each → nsd, hd95"""
        if not predicted.any():
            return 0.0, hypot(*true.shape)
        found, wanted = (outline(mask) for mask in cut_out(predicted, true))
        both_ways = distances(found, wanted), distances(wanted, found)
        within = sum(np.count_nonzero(way <= self.tolerance) for way in both_ways)
        nsd = within / sum(len(way) for way in both_ways)
        return nsd, float(max(np.quantile(way, 0.95) for way in both_ways))


def outline(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """mask: (h, w) 0 or 1, outside it there is nothing → (h, w) bool"""
    return mask > cv2.erode(mask, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def distances(here: NDArray[np.bool_], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(h, w) bool each → for each pixel of `here`, in float64, how far it is to the closest one of `there`."""
    # in float32, where a whole distance is a whole number
    return distance_to_zero((~there).astype(np.uint8))[here].astype(np.float64)
