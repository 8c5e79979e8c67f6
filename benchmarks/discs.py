"""Images of any size with bright discs on a smooth background, and files of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

WRITTEN_TILE = 512  # of the TIFF files


def draw_discs(rows: slice, columns: slice, cell: int) -> NDArray[np.uint8]:
    """A window of an endless image with a disc in each cell."""
    in_disc, size, y, x = discs(rows, columns, cell)
    light = 90 + 25 * np.sin(y / (8 * cell)) + 25 * np.cos(x / (11 * cell))
    return (light + in_disc * (60 + 40 * size)).astype(np.uint8)


def disc_ids(rows: slice, columns: slice, cell: int) -> NDArray[np.uint16]:
    """The discs of this window, numbered from 1."""
    in_disc, _, y, x = discs(rows, columns, cell)
    row, column = (axis.astype(np.int64) // cell for axis in (y, x))
    numbers = np.where(in_disc, 1 + row * 10**5 + column, 0)
    return np.unique(np.append(0, numbers), return_inverse=True)[1][1:].reshape(numbers.shape).astype(np.uint16)


def discs(rows: slice, columns: slice, cell: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Whether a pixel is in a disc, the size of the disc of its cell from 0 to 1, and its row and column."""
    y, x = (axis.astype(np.float32) for axis in np.ogrid[rows, columns])
    row, column = y // cell, x // cell
    places = np.random.default_rng(0).random((3, 64, 64), np.float32)
    down, right, size = places[:, row.astype(int) % 64, column.astype(int) % 64]
    radius = cell * (0.25 + 0.15 * size)
    room = cell - 2 * radius
    offset = (y - row * cell - radius - down * room) ** 2 + (x - column * cell - radius - right * room) ** 2
    return offset < radius**2, size, y, x


def write_discs(path: Path, side: int, cell: int) -> None:
    """Writes a square image as a TIFF of tiles, of which one is in memory at a time."""

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for top in range(0, side, WRITTEN_TILE):
            for left in range(0, side, WRITTEN_TILE):
                yield draw_discs(slice(top, top + WRITTEN_TILE), slice(left, left + WRITTEN_TILE), cell)

    shape = (WRITTEN_TILE, WRITTEN_TILE)
    tifffile.imwrite(path, tiles(), shape=(side, side), dtype="uint8", tile=shape, compression="zlib")
