"""Outlines of a mask along the edges of its pixels, from which the mask can be filled again without loss."""

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = list[tuple[int, int]]  # corners x, y; the first is not repeated at the end


def trace_outlines(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """The rings of each part of a mask: the outer one, then those of its holes.

    Coordinates are pixel edges: the pixel in column x has its sides at x and x + 1. Pixels that touch at a corner only
    are two parts, and no ring touches itself, so each part is a valid polygon (OGC simple features). Read with y
    upwards, outer rings turn counterclockwise and holes clockwise (RFC 7946).

    mask: (H, W) → parts in scan order of their first pixel
    """
    y, x, right, down, convex = _find_corners(mask).T
    # Along each grid line, the first corner is joined to the second, the third to the fourth, and so on.
    in_scan_order = np.lexsort((right, x, y))
    beside, below = _join_pairs(in_scan_order), _join_pairs(np.lexsort((down, y, x)))
    # At a convex top left corner the object lies below the edge to the right, at that of a hole above it.
    labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1]
    part_of = labels[np.minimum(y - 1 + convex, len(mask) - 1), np.minimum(x, mask.shape[1] - 1)].tolist()
    points, is_outer = list(zip(x.tolist(), y.tolist(), strict=True)), convex.tolist()
    parts: dict[int, list[Ring]] = {}
    seen: set[int] = set()
    for start in in_scan_order.tolist():
        if start in seen:  # else it is the top left corner of a walk
            continue
        walk, at = [], start
        while at not in seen:
            walk += [at, beside[at]]
            seen.update(walk[-2:])
            at = below[beside[at]]
        if not is_outer[start]:
            walk.reverse()
        parts.setdefault(part_of[start], []).extend(_split_at_touching([points[corner] for corner in walk]))
    return [sorted(rings, key=_signed_area, reverse=True) for rings in parts.values()]


def _find_corners(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, 5): y and x of each corner, whether its edges lead right (else left) and down (else up), and is convex.

    Where two pixels of the mask touch at a corner only, each has a corner of its own there.
    """
    padded = np.pad(mask, 1)
    height, width = mask.shape[0] + 1, mask.shape[1] + 1  # of the grid
    found = []
    for down in (0, 1):
        for right in (0, 1):
            # One of the four pixels around each grid point, its neighbors there, and the pixel opposite.
            pixel, beside, below, opposite = (
                padded[v : v + height, h : h + width]
                for v, h in ((down, right), (down, 1 - right), (1 - down, right), (1 - down, 1 - right))
            )
            for convex, is_corner in (
                (1, pixel & ~beside & ~below),
                (0, ~pixel & beside & below & opposite),
            ):
                y, x = np.nonzero(is_corner)
                found.append(np.stack([y, x, *(np.full(len(y), flag) for flag in (right, down, convex))], axis=1))
    return np.concatenate(found)


def _join_pairs(order: NDArray[np.int64]) -> list[int]:
    """The partner of each corner, if in `order` the corners at places 2i and 2i + 1 are partners."""
    partner = np.empty_like(order)
    partner[order] = order.reshape(-1, 2)[:, ::-1].ravel()
    return partner.tolist()


def _split_at_touching(walk: Ring) -> list[Ring]:
    """Splits a closed walk that passes a point twice into rings that do not."""
    rings: list[Ring] = []
    path: Ring = []
    place: dict[tuple[int, int], int] = {}  # of each point of the path
    for point in walk:
        if point in place:  # the points since then are a ring of their own
            rings.append(path[place[point] :])
            for passed in rings[-1]:
                del place[passed]
            del path[len(path) - len(rings[-1]) :]
        place[point] = len(path)
        path.append(point)
    return [*rings, path]


def _signed_area(ring: Ring) -> float:
    """Positive for outer rings, negative for holes."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True)) / 2
