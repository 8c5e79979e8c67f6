"""Crops a pair of masks to their content, so that the cost of a metric follows the object and not the image."""

import cv2
import numpy as np
from numpy.typing import NDArray


def crop_to_union(predicted: NDArray[np.bool_], gt: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Crops both masks to the bounding box of their union.

    predicted, gt: (H, W) bool → (h, w) uint8 each
    """
    x, y, width, height = cv2.boundingRect((predicted | gt).view(np.uint8))  # 0, 0, 0, 0 where both are empty
    rows, columns = slice(y, y + height), slice(x, x + width)
    return predicted[rows, columns].astype(np.uint8), gt[rows, columns].astype(np.uint8)
