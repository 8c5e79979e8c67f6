"""The picture of an image that the page shows: reduced as a whole, and in full where the page is zoomed in."""

import torch
from torch import Tensor

from sam_ft.app.objects import encode_png
from sam_ft.data.io.windows import Windows
from sam_ft.report.pictures import stretch_contrast
from sam_ft.utils.errors import DataError
from sam_ft.utils.tiles import Window

PREVIEW_SIDE = 2048  # px of a picture, at most
REFERENCE_SIDE = 512  # px of the reduced image whose values set the contrast
BAND = 1024  # rows that are read at once


class Preview:
    """Pictures of windows of an image, all with the contrast of the whole image."""

    def __init__(self, image: Windows) -> None:
        self._image = image
        height, width = image.size
        self.whole: Window = (slice(0, height), slice(0, width))
        self._reduced = read_reduced(image, self.whole, self.step(self.whole))
        self._reference = self._reduced[
            (slice(None), *[slice(None, None, _step(n, REFERENCE_SIDE)) for n in image.size])
        ]

    def step(self, window: Window) -> int:
        """Pixels of the image, in each direction, of which the picture shows one."""
        return _step(max(span.stop - span.start for span in window), PREVIEW_SIDE)

    def png(self, window: Window) -> bytes:
        """Of at most `PREVIEW_SIDE` px a side, brightened where the image is dark. Raises: DataError"""
        if any(not 0 <= span.start < span.stop <= n for span, n in zip(window, self._image.size, strict=True)):
            height, width = self._image.size
            raise DataError(f"the window lies outside of the image, which is {width} wide and {height} high")
        pixels = self._reduced if window == self.whole else read_reduced(self._image, window, self.step(window))
        return encode_png(stretch_contrast(pixels, self._reference).permute(1, 2, 0).contiguous().numpy())


def read_reduced(image: Windows, window: Window, step: int) -> Tensor:
    """Every n-th row and column of a window, (3, h, w) uint8, of which a band of rows is in memory at a time."""
    rows, columns = window
    band = max(1, BAND // step) * step  # so that the rows of the next one go on in step
    starts = range(rows.start, rows.stop, band)
    parts = [image.read(slice(top, min(top + band, rows.stop)), columns)[:, ::step, ::step].clone() for top in starts]
    return torch.cat(parts, dim=1)


def _step(length: int, most: int) -> int:
    return -(-length // most)
