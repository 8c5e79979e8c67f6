"""Pictures to look at: the image with its objects drawn on it."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sam_ft.report.pictures import paint_masks, stretch_contrast
from sam_ft.types import Size
from sam_ft.utils.files import atomic_path
from sam_ft.writers.instances import Instances, Pixels

MAX_SIDE_OF_OVERLAY = 4096  # pixels
STRIP_PIXELS = 2**24  # of the image, read at a time


def write_overlay(path: Path, instances: Instances, max_side: int = MAX_SIDE_OF_OVERLAY) -> None:
    """Writes a PNG with all masks and their outlines.

    The color is that of the class, or that of the object if there is one class. A larger image than `max_side` is
    reduced to a half, a third and so on; a dark one is brightened.
    """
    factor = -(-max(instances.size) // max_side)
    picture = stretch_contrast(_reduce(instances.image, instances.size, factor)).float()
    colors = instances.class_places if len(instances.classes) > 1 else range(len(instances))
    for (x0, y0, mask), color in zip(instances.crops(), colors, strict=True):
        # Every `factor`-th row and column of the image.
        small = torch.from_numpy(mask[-y0 % factor :: factor, -x0 % factor :: factor])
        y, x = -(-y0 // factor), -(-x0 // factor)
        paint_masks(picture[:, y : y + small.shape[0], x : x + small.shape[1]], small[None], [color])
    pixels = picture.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _reduce(image: Pixels, size: Size, factor: int) -> Tensor:
    """(3, ⌈H / factor⌉, ⌈W / factor⌉) uint8: the means of squares of pixels; reads a few rows at a time."""
    rows = max(1, STRIP_PIXELS // (size[1] * factor)) * factor
    strips = []
    for top in range(0, size[0], rows):
        strip = image[:, top : min(top + rows, size[0]), :]
        if factor > 1:  # squares at the right and bottom border may be smaller
            strip = avg_pool2d(strip.float(), factor, ceil_mode=True, count_include_pad=False).round().to(torch.uint8)
        strips.append(strip)
    return torch.cat(strips, dim=1)
