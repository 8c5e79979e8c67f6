"""Keeps the latest rows of an image that arrives in bands."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class RowBuffer:
    """Bands of rows, (..., rows, W), from the first that is not dropped to the last that was appended."""

    def __init__(self) -> None:
        self.stop = 0  # the row after the last
        self._bands: list[tuple[int, NDArray[Any]]] = []  # with the first row of each

    def append(self, band: NDArray[Any]) -> None:
        self._bands.append((self.stop, band))
        self.stop += band.shape[-2]

    def drop(self, row: int) -> None:
        """Frees the rows before this one."""
        self._bands = [(start, band) for start, band in self._bands if start + band.shape[-2] > row]
        if self._bands and self._bands[0][0] < row:
            start, band = self._bands[0]
            self._bands[0] = row, band[..., row - start :, :].copy()

    def window(self, rows: slice, columns: slice) -> NDArray[Any]:
        """(..., h, w): a copy."""
        return np.concatenate(
            [
                band[..., max(rows.start - start, 0) : rows.stop - start, columns]
                for start, band in self._bands
                if start < rows.stop and start + band.shape[-2] > rows.start
            ],
            axis=-2,
        )
