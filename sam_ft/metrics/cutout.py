"""What is slow per pixel is done on the part of the image that an object takes up."""

import cv2
import numpy as np
from numpy.typing import NDArray


def cut_out(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """predicted, true: (H, W) bool → both as (h, w) uint8, the smallest part that holds all true pixels of the two."""
    x, y, width, height = cv2.boundingRect((predicted | true).view(np.uint8))
    rows, columns = slice(y, y + height), slice(x, x + width)
    return predicted[rows, columns].astype(np.uint8), true[rows, columns].astype(np.uint8)
