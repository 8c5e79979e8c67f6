"""Overlapping tiles that cover an image, and the blending of maps that were predicted for each of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sam_ft.types import Size
from sam_ft.utils.errors import ConfigError

Window = tuple[slice, slice]  # rows and columns of an image, with start and stop
SMALLEST_TILE = 16  # px
SMALLEST_OBJECT = 12  # px of the input frame; smaller objects are lost in the embedding


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image, row by row.

    size: (H, W) · tile: side in pixels of the image; an image that is narrower has narrower tiles
    overlap: share of a tile that its neighbor to the right and the one below cover too, from 0 to 0.5. The last tile of
        a row is moved inward instead of cut, so its overlap is larger.
    """

    size: Size
    tile: int
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if self.tile < 1 or not 0 <= self.overlap <= 0.5:
            raise ValueError(f"tile={self.tile}, overlap={self.overlap}; expected at least 1 px, and 0 to 0.5")

    @cached_property
    def rows(self) -> list[slice]:
        """The rows of each row of tiles."""
        return self._spans(self.size[0])

    @cached_property
    def columns(self) -> list[slice]:
        """The columns of each tile in a row."""
        return self._spans(self.size[1])

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Window]:
        return ((rows, columns) for rows in self.rows for columns in self.columns)

    def best_tiles(self, boxes: NDArray) -> NDArray[np.int64]:
        """The tile that shows most of each box, of equal ones that in which the box lies farther from the edge.

        boxes: (N, 4) x0, y0, x1, y1 → (N,) positions in the order of the grid
        """
        rows = _best_spans(self.rows, boxes[:, 1], boxes[:, 3])
        return rows * len(self.columns) + _best_spans(self.columns, boxes[:, 0], boxes[:, 2])

    def _spans(self, length: int) -> list[slice]:
        side = min(self.tile, length)
        step = max(1, self.tile - round(self.overlap * self.tile))
        return [slice(start, start + side) for start in [*range(0, length - side, step), length - side]]


def auto_tile(short_sides: ArrayLike, longest_sides: ArrayLike, image_size: int, percentile: float = 10) -> int:
    """The tile side at which small objects have at least `SMALLEST_OBJECT` px at the model's input.

    min(max(s · S / 12, S / 2), L): s the percentile of the objects' short sides, S the input side, L the longest side
    of the images. Tiles are not magnified more than twice, and not reduced more than the largest image was. A tile of
    side L cuts no image of these, and shows larger images at the scale that training saw.

    short_sides: (N,) of the objects' boxes · longest_sides: of the images; both in pixels of the files
    image_size: S · percentile: of the objects that may be smaller
    """
    longest = int(np.max(longest_sides))
    sides = np.asarray(short_sides)
    if not sides.size:
        return longest
    shrunk = np.percentile(sides, percentile) * image_size / SMALLEST_OBJECT
    return min(max(int(shrunk), image_size // 2), longest)


def check_tile(name: str, tile: object) -> None:
    """Refuses a side of tiles that is neither a number of pixels nor "auto" nor None. Raises: ConfigError

    name: of the setting
    """
    if tile not in (None, "auto") and (type(tile) is not int or tile < SMALLEST_TILE):  # true is an int to Python
        raise ConfigError(f"{name}={tile}; expected at least {SMALLEST_TILE} pixels, auto or null")


def edge_weights(length: int, margin: int) -> NDArray[np.float32]:
    """The weight of each pixel across a tile: w(i) = min(1, (i + 1/2) / m, (n - i - 1/2) / m).

    It rises from the edge over m = `margin` pixels, so the weights of two tiles that overlap by m sum to 1. The weight
    of a pixel is the product of that of its row and that of its column.

    length: n → (n,)
    """
    place = np.arange(length, dtype=np.float32) + 0.5
    return np.minimum(1, np.minimum(place, length - place) / max(0.5, margin))


def blend_tiles(
    grid: TileGrid, predict: Callable[[Sequence[Window]], Iterator[NDArray[np.float32]]]
) -> Iterator[NDArray[np.float32]]:
    """Maps of the whole image, as bands of rows from top to bottom: each pixel the weighted mean of its tiles.

    Each band holds the rows that no further tile covers, so at most two rows of tiles are in memory.

    predict: gets the tiles of one row of the grid, and gives the maps of each, (C, h, w), in this order
    → (C, rows, W) each; together they have H rows
    """
    margin = round(grid.overlap * grid.tile)
    across = _normalized(grid.columns, margin, grid.size[1])
    down = _normalized(grid.rows, margin, grid.size[0])
    pending: NDArray[np.float32] | None = None  # rows of the tiles so far that further tiles cover too
    # The start of the next row of tiles, or the image's last row.
    starts = [rows.start for rows in grid.rows] + [grid.size[0]]
    for rows, weight, (start, end) in zip(grid.rows, down, pairwise(starts), strict=True):
        band: NDArray[np.float32] | None = None
        windows = [(rows, columns) for columns in grid.columns]
        for columns, share, maps in zip(grid.columns, across, predict(windows), strict=True):
            if band is None:
                band = np.zeros((len(maps), rows.stop - rows.start, grid.size[1]), np.float32)
            band[:, :, columns] += maps * (weight[:, None] * share)
        assert band is not None
        if pending is not None:
            band[:, : pending.shape[1]] += pending
        # Copies, so that rows of both are not held twice.
        complete, pending = band[:, : end - start].copy(), band[:, end - start :].copy()
        band = None
        yield complete


def _normalized(spans: Sequence[slice], margin: int, length: int) -> list[NDArray[np.float32]]:
    """The weights across each tile, divided by their sum at each pixel."""
    weights = [edge_weights(span.stop - span.start, margin) for span in spans]
    total = np.zeros(length, np.float32)
    for span, weight in zip(spans, weights, strict=True):
        total[span] += weight
    return [weight / total[span] for span, weight in zip(spans, weights, strict=True)]


def _best_spans(spans: Sequence[slice], low: NDArray, high: NDArray) -> NDArray[np.int64]:
    starts, stops = (np.array([[getattr(span, end)] for span in spans]) for end in ("start", "stop"))
    shown = np.minimum(high, stops) - np.maximum(low, starts)
    distance = np.minimum(low - starts, stops - high)
    return np.lexsort((distance, shown), axis=0)[-1]
