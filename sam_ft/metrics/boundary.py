"""Boundary IoU: the overlap of the boundary regions of two masks."""

from math import sqrt

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.metrics.crop import crop_to_union
from sam_ft.utils.errors import ConfigError


class BoundaryIou:
    """IoU of the pixels of each mask near its own boundary; unlike IoU, it sees the outline of large objects.

    dilation_ratio: width of the boundary region as a fraction of the image's diagonal, at least 1 pixel

    Distance is measured in the maximum norm, and the border of the image counts as boundary. An empty prediction scores
    0. A gt mask is non-empty and so has a boundary, hence the union is never empty.
    Source: Cheng et al. 2021, https://arxiv.org/abs/2103.16562, rounded as in their boundary-iou-api.

    Raises:
        ConfigError: dilation_ratio is not above 0 and at most 1.
    """

    names = ("boundary_iou",)
    monitors = ("boundary_iou",)

    def __init__(self, dilation_ratio: float = 0.02) -> None:
        if not 0 < dilation_ratio <= 1:
            raise ConfigError(
                f"BoundaryIou: dilation_ratio={dilation_ratio}; "
                "expected a fraction of the image's diagonal, above 0 and at most 1"
            )
        self.dilation_ratio = dilation_ratio

    def __call__(self, predicted: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """predicted, gt: (N, H, W) bool on the CPU → {"boundary_iou": (N,) float64}"""
        height, width = gt.shape[-2:]
        dilation = max(1, round(self.dilation_ratio * sqrt(height**2 + width**2)))
        ious = []
        # The crop does not change the result: background surrounds it as the image's border did.
        for pair in zip(predicted.numpy(), gt.numpy(), strict=True):
            predicted_boundary, gt_boundary = (mask_to_boundary(mask, dilation) for mask in crop_to_union(*pair))
            intersection = np.count_nonzero(predicted_boundary & gt_boundary)
            ious.append(intersection / np.count_nonzero(predicted_boundary | gt_boundary))
        return {"boundary_iou": torch.tensor(ious, dtype=torch.float64)}


def mask_to_boundary(mask: NDArray[np.uint8], dilation: int) -> NDArray[np.bool_]:
    """The pixels of a mask at most `dilation` pixels away from background, which also surrounds the array.

    mask: (h, w) 0 or 1 → (h, w) bool
    """
    kernel = np.ones((2 * dilation + 1, 2 * dilation + 1), np.uint8)
    # Erosion by a square leaves the inside; border value 0 makes the image's border background.
    return mask > cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
