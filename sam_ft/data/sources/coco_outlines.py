"""Signs, in the boxes of all masks of a file, that the outlines are not what was meant."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.data.sources.coco_masks import decode_counts
from sam_ft.data.sources.run_lengths import are_of_other_order, count_steps
from sam_ft.types import Size

SCALES = {100: "percent", 1000: "thousandths"}  # of width and height
MIN_OUTLINES = 10  # for shares of the image
MAX_SHARE = 0.75  # of width and height
CHANCE = 0.01  # that objects anywhere in the images give the same
SAME = 0.9  # IoU of repeated objects


def corner_reason(boxes: NDArray, sizes: NDArray) -> str | None:
    """Why all outlines lie in the upper left of their images, or None where they do not.

    boxes: (A, 4) x, y, width, height of the masks · sizes: (A, 2) height and width of their images
    """
    if not len(boxes):
        return None
    sides, ends = sizes[:, ::-1].astype(float), boxes[:, :2] + boxes[:, 2:]
    for scale, unit in SCALES.items():
        if ends.max() <= scale and _are_beyond_chance(boxes, sides, np.minimum(sides, scale), CHANCE):
            return f"no x or y is above {scale}, so they may be {unit} of width and height instead of pixels"
    shares = (ends / sides).max(0)
    # The shares are taken from the same outlines, so chance counts more.
    likely = len(boxes) >= MIN_OUTLINES and _are_beyond_chance(boxes, sides, shares * sides, CHANCE**2)
    if shares.max() <= MAX_SHARE and likely:
        width, height = shares
        return f"all end at {width:.0%} of the width and {height:.0%} of the height, as those of a smaller copy"
    return None


def _are_beyond_chance(boxes: NDArray, sides: NDArray, limits: NDArray, chance: float) -> bool:
    """Whether boxes lie around half of limits below the sides, and chance would hardly let all of them end there.

    limits, sides: (A, 2) of each box
    """
    extents = boxes[:, 2:]
    room, below = np.maximum(sides - extents, 1), np.maximum(limits - extents, 1)
    centers, near = (boxes[:, :2] + extents / 2).sum(0), limits.sum(0)
    far = sides.sum(0)
    centered = (abs(centers - near / 2) < abs(centers - far / 2)) | (far < 1.1 * near)
    return bool(centered.all()) and float(np.log(room / below).sum()) > -np.log(chance)


def reaches_out(segmentation: Any, box: Sequence[float], size: Size) -> bool:
    """Whether a valid polygon goes on beyond the image; box: x, y, width, height of its mask."""
    (height, width), (x, y, w, h) = size, box
    if not isinstance(segmentation, list) or (x > 0 and y > 0 and x + w < width and y + h < height):
        return False
    polygons = [part for part in segmentation if isinstance(part, list)]
    return any(
        min(values) < -2 - side / 20 or max(values) > side * 1.05 + 2
        for part in polygons
        for values, side in ((part[::2], width), (part[1::2], height))
    )


def follow_rows(encoded: Sequence[tuple[bytes, Size]]) -> bool:
    """Whether compressed RLEs, each with the size of its image, seem to count pixels along the rows."""
    fits = np.zeros(2, np.int64)
    for counts, size in encoded:
        runs = decode_counts(counts)
        assert runs is not None  # they come from pycocotools
        fits += count_steps(np.cumsum(runs)[:-1:2], size)
    return are_of_other_order(*fits.tolist())


def near_repeats(groups: NDArray, boxes: NDArray, runs: Sequence[bytes], sizes: NDArray) -> list[int]:
    """Positions of the masks that nearly cover another one of their group, which comes before them.

    groups: (A, 2) image and class, equal in a group · boxes: (A, 4) x, y, width, height · runs: A compressed RLEs
    sizes: (A, 2) height and width
    """
    order = np.lexsort((boxes[:, 0], *groups.T))
    groups, edges = groups[order], np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])[order]
    tolerance = 1 + boxes[order, 2:].max(1, initial=0) / 20
    found: set[int] = set()
    for step in range(1, len(order)):  # with the next one by x, the one after it, ...
        one, other = slice(None, -step), slice(step, None)
        close = (groups[one] == groups[other]).all(1) & (abs(edges[one, 0] - edges[other, 0]) <= tolerance[one])
        if not close.any():
            break
        close &= (abs(edges[one] - edges[other]) <= tolerance[one, None]).all(1)
        for first in np.flatnonzero(close):
            pair = sorted((int(order[first]), int(order[first + step])))
            a, b = ({"size": sizes[key].tolist(), "counts": runs[key]} for key in pair)
            if rle.iou([a], [b], [0])[0, 0] >= SAME:
                found.add(pair[1])
    return sorted(found)
