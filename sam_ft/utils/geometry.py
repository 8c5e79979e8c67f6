"""Boxes, points and sizes: pure functions on tensors, in pixels, x before y.

A box is x0, y0, x1, y1 with x1, y1 one past the last pixel, so x1 - x0 is its width in pixels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.types import Size


def masks_to_boxes(masks: Tensor) -> Tensor:
    """The tight box of each mask, as `cv2.boundingRect` gives it.

    masks: (N, H, W) bool → (N, 4) float32; a mask without a true pixel gives 0, 0, 0, 0.
    """
    if masks.numel() == 0:
        return torch.zeros(len(masks), 4, device=masks.device)
    # as bytes: torch reduces them several times faster than bool
    pixels = masks.view(torch.uint8)
    columns, rows = pixels.amax(dim=1), pixels.amax(dim=2)  # (N, W), (N, H)
    height, width = masks.shape[-2:]
    x0, y0 = columns.argmax(dim=1), rows.argmax(dim=1)
    x1, y1 = width - columns.flip(1).argmax(dim=1), height - rows.flip(1).argmax(dim=1)
    # Of an empty mask every argmax is 0, which gives the whole image: set to 0, 0, 0, 0.
    boxes = torch.stack([x0, y0, x1, y1], dim=1).float()
    return boxes * columns.any(dim=1)[:, None]


def resized_size(size: Size, side: int) -> Size:
    """The size that an image has once its longest side is `side`, rounded as SamPredictor does, at least 1 pixel."""
    scale = side / max(size)
    height, width = (max(1, int(length * scale + 0.5)) for length in size)
    return height, width


def scale_points(points: Tensor, from_size: Size, to_size: Size) -> Tensor:
    """Moves points from an image of one size to the same image of another (SamPredictor's `apply_coords`).

    points: (..., 2) x, y → (..., 2) float32; each axis by its own ratio, since sizes are rounded.
    """
    ratio = torch.tensor(
        [to_size[1] / from_size[1], to_size[0] / from_size[0]], dtype=torch.float64, device=points.device
    )
    return (points.double() * ratio).float()


def scale_boxes(boxes: Tensor, from_size: Size, to_size: Size) -> Tensor:
    """Moves boxes (N, 4) from an image of one size to the same image of another, corner by corner."""
    return scale_points(boxes.reshape(-1, 2, 2), from_size, to_size).reshape(-1, 4)


def resize_masks(masks: Tensor, size: Size) -> Tensor:
    """Nearest-neighbor resize: each new pixel takes the old one that its center falls into.

    masks: (N, H, W) bool → (N, *size) bool
    """
    if masks.shape[-2:] == size:
        return masks
    if len(masks) == 0:
        return masks.new_zeros(0, *size)
    height, width = masks.shape[-2:]
    # NumPy: torch's "nearest-exact" takes nine times as long for masks. Columns first, while there are fewer rows.
    pixels = masks.numpy().take(_centers(width, size[1]), axis=2).take(_centers(height, size[0]), axis=1)
    return torch.from_numpy(pixels)


def _centers(old: int, new: int) -> NDArray[np.int64]:
    """(new,) the old pixel that each new one's center falls into: floor((i + 1/2) · old / new), in whole numbers."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def grow_boxes(boxes: Tensor, factor: float) -> Tensor:
    """Scales boxes (N, 4) by `factor` around their centers."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return torch.cat([centers - halves, centers + halves], dim=1)


def jitter_boxes(boxes: Tensor, noise: Tensor, max_shift: float) -> Tensor:
    """Moves each side of a box on its own (SAM, appendix A, "Training algorithm").

    boxes: (N, 4) · noise: (N, 4) in units of the box's own sides, width for x and height for y · max_shift: pixels.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + (noise * sides).clamp(-max_shift, max_shift)


def fit_boxes(boxes: Tensor, sizes: Sequence[Size] | Tensor, min_side: float = 1.0) -> Tensor:
    """Keeps boxes in order, at least `min_side` wide and high, and inside their images.

    boxes: (N, 4) · sizes: (N, 2) height, width of each box's image, each at least `min_side` → (N, 4)
    """
    # (N, 2) width, height, to compare with x, y.
    limits = torch.as_tensor(sizes, dtype=boxes.dtype, device=boxes.device).reshape(-1, 2).flip(1)
    low = torch.minimum(boxes[:, :2], boxes[:, 2:]).clamp(min=0).minimum(limits)
    high = torch.maximum(boxes[:, :2], boxes[:, 2:]).clamp(min=0).minimum(limits)
    lack = (min_side - (high - low)).clamp(min=0) / 2
    # a widened box may stick out again, so it is moved back as a whole
    low = (low - lack).clamp(min=0).minimum(limits - min_side)
    high = torch.maximum(high + lack, low + min_side).minimum(limits)
    return torch.cat([low, high], dim=1)


def pick_pixels(regions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of each region: of its n pixels in scan order, those at the places floor(share · n).

    regions: (M, H, W) bool · shares: (M, K) in [0, 1); if they are uniform, so is the draw
    → (M, K, 2) int64 x, y, which mean nothing where a region is empty, and (M,) bool, where it is not
    """
    ranks = regions.flatten(1).cumsum(1, dtype=torch.int32)
    counts = ranks[:, -1:]
    # Ranks from 1; rounding in float32 may give n itself, hence the minimum.
    wanted = (shares * counts).to(torch.int32).minimum(counts - 1) + 1
    # The first pixel at which the running count reaches the rank, which is a pixel of the region.
    places = torch.searchsorted(ranks, wanted).clamp(max=ranks.shape[1] - 1)
    width = regions.shape[-1]
    return torch.stack([places % width, places // width], dim=2), counts[:, 0] > 0


def distance_to_zero(region: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far each pixel is from the closest one that is 0, the same to the last bit at each call.

    region: (H, W) → (H, W) in pixels
    """
    # With Intel's library OpenCV rounds differently from call to call. Of two pixels that are equally deep, now one
    # and now the other would be the deepest.
    fast = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)  # which holds for this thread alone
    try:
        return np.asarray(cv2.distanceTransform(region, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    finally:
        cv2.ipp.setUseIPP(fast)


def deepest_pixel(region: NDArray[np.bool_]) -> tuple[int, int, float]:
    """The pixel of a region that is farthest from the outside, which begins at the border of the image.

    Of several that are equally far, it is the first in scan order.

    region: (H, W) → x, y, and the distance in pixels, which is 0 where the region is empty
    """
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return 0, 0, 0.0
    # Cropped to the region, with a border of one pixel that counts as outside.
    cut = region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    padded = np.pad(cut.astype(np.uint8), 1)
    depth = distance_to_zero(padded)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(columns[0] + x - 1), int(rows[0] + y - 1), float(depth[y, x])  # - 1: of the padding
