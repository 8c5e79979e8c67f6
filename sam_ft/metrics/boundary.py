"""How well the outline of a mask is met, whatever lies inside it."""

from math import sqrt

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.metrics.cutout import cut_out
from sam_ft.utils.errors import ConfigError


class BoundaryIou:
    """IoU of the pixels of each mask that lie close to its own boundary; large objects cannot hide a bad outline.

    width: how close, as a share of the image's diagonal, at least 1 pixel

    Distance is counted along rows, columns and diagonals alike, and the border of the image is a boundary too.
    An empty prediction scores 0; a true mask always has a boundary, so the union is never empty.
    Source: Cheng et al. 2021, https://arxiv.org/abs/2103.16562, rounded as in their boundary-iou-api.

    Raises:
        ConfigError: width is no share.
    """

    names = ("boundary_iou",)
    monitors = ("boundary_iou",)

    def __init__(self, width: float = 0.02) -> None:
        if not 0 < width <= 1:
            raise ConfigError(f"BoundaryIou: width={width}; expected a share of the image's diagonal, above 0, up to 1")
        self.width = width

    def __call__(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """predicted, true: (N, H, W) bool on the CPU → {"boundary_iou": (N,) float64}"""
        height, width = true.shape[-2:]
        pixels = max(1, round(self.width * sqrt(height**2 + width**2)))
        ious = []
        for pair in zip(predicted.numpy(), true.numpy(), strict=True):
            found, wanted = (boundary(mask, pixels) for mask in cut_out(*pair))
            ious.append(np.count_nonzero(found & wanted) / np.count_nonzero(found | wanted))
        return {"boundary_iou": torch.tensor(ious, dtype=torch.float64)}


def boundary(mask: NDArray[np.uint8], pixels: int) -> NDArray[np.bool_]:
    """mask: (h, w) 0 or 1, outside it there is nothing → its pixels at most `pixels` away from one that is 0."""
    square = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return mask > cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
