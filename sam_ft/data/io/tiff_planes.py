"""Chooses pages and channels of a TIFF by its axes, which the metadata of OME, ImageJ and tifffile name."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from sam_ft.data.io.tiff import ALPHA, read_tiff_values
from sam_ft.utils.errors import DataError

Page = int | str | None  # of several, from 0; or a projection of all of them
PROJECTIONS = ("max", "mean")
KNOWN_AXES = "CZT"  # channels, depth, time; others only count pages


@dataclass(frozen=True)
class TiffPlanes:
    """The pages that become one image.

    first: for the header · numbers: of pages, (channels, slices) · samples: of each page that are read; None for all
    projection: of the slices · series: of the pages, None where a page is a file of its own
    """

    first: tifffile.TiffPage
    numbers: list[list[int]]
    samples: tuple[int, ...] | None
    projection: str | None
    series: tifffile.TiffPageSeries | None

    @property
    def single(self) -> bool:
        """Whether the image is a page, or some of its samples."""
        one = len(self.numbers) == len(self.numbers[0]) == 1
        return one and (self.series is None or _has_page(self.series, self.numbers[0][0]))

    @property
    def bytes_per_pixel(self) -> int:
        """That `read` takes, of all pages where they have one header."""
        own = np.dtype(self.first.dtype or np.uint8).itemsize * self.first.samplesperpixel
        last = self.numbers[-1][-1]
        whole = 0 if self.series is None or _has_page(self.series, last) else own * math.prod(self.series.shape[:-2])
        return len(self.numbers) * own + max(2 * own, 8) + whole

    def read(self) -> NDArray:
        """(H, W) or (H, W, bands) as stored."""
        if self.single:
            values = read_tiff_values(self.first)
            return values if self.samples is None else np.atleast_3d(values)[..., list(self.samples)]
        return np.dstack([self._project(numbers) for numbers in self.numbers])

    def _project(self, numbers: Sequence[int]) -> NDArray:
        """(H, W, ...) of the slices of a channel; one after the other, so that memory holds two."""
        pages = self._pages(numbers)
        total = next(pages)
        if self.projection == "max":
            for values in pages:
                np.maximum(total, values, out=total)
            return total
        dtype, total = total.dtype, total.astype(np.float64)
        for values in pages:
            total += values
        total /= len(numbers)
        return total.astype(dtype) if dtype.kind == "f" else np.rint(total).astype(dtype)

    def _pages(self, numbers: Sequence[int]) -> Iterator[NDArray]:
        assert self.series is not None
        if not _has_page(self.series, numbers[-1]):  # one header for all
            if self.first.samplesperpixel > 1:
                raise ValueError(f"its axes are {self.series.axes}; expected gray pages")
            stack = self.series.asarray()
            stack = stack.reshape(-1, *stack.shape[-2:])
            yield from (stack[number].copy() for number in numbers)
            return
        for number in numbers:
            page = self.series.pages[number]
            if page is None:
                raise ValueError(f"page {number} is missing")
            yield read_tiff_values(page.aspage())


@contextmanager
def open_tiff(path: Path, page: Page, channels: Sequence[int] | None) -> Iterator[TiffPlanes]:
    """The headers of the chosen pages; only `TiffPlanes.read` reads pixels.

    Raises: DataError for a choice that the file does not have, or without one; Pillow's error for more pixels than its
        limit.
    """
    with tifffile.TiffFile(path) as file:
        planes = _choose(path, file, page, channels)
        first = planes.first
        bands, pixels = first.samplesperpixel, first.imagelength * first.imagewidth
        if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{pixels} pixels exceed the limit of {Image.MAX_IMAGE_PIXELS}")
        alpha = bands == 2 and first.extrasamples[:1] and first.extrasamples[0] in ALPHA
        if planes.samples is None and bands not in (1, 3, 4) and not alpha:
            raise DataError(
                f"{path}: has {bands} bands; expected 1 (gray), 3 (RGB), or either with an alpha channel. Of an "
                "image choose one to three of them, counted from 0, as data.channels=[0,1]; save a mask as one channel"
            )
        yield planes


def _choose(path: Path, file: tifffile.TiffFile, page: Page, channels: Sequence[int] | None) -> TiffPlanes:
    sizes, series = _axes(file)
    if not sizes and channels is None:
        return TiffPlanes(file.pages.first, [[0]], None, None, None)
    samples = file.pages.first.samplesperpixel
    # Pages of an unknown axis are channels where channels are chosen, and no page.
    unnamed = len(sizes) == 1 and not {*sizes} & {*KNOWN_AXES} and page is None and samples == 1
    channel_axis = "C" if "C" in sizes else next(iter(sizes)) if channels is not None and unnamed else None
    named = (
        f" (axes {series.axes}: {' x '.join(map(str, series.shape))})" if series and {*sizes} & {*KNOWN_AXES} else ""
    )
    slices = math.prod(length for axis, length in sizes.items() if axis != channel_axis)
    if channel_axis is not None and samples > 1:
        raise ValueError(f"its axes are {series.axes if series else 'unknown'}; expected gray pages for each channel")
    if channel_axis is not None and channels is None:
        raise DataError(
            f"{path}: holds {sizes[channel_axis]} channels{named}; of an image choose one to three of them, counted "
            "from 0, as data.channels=[0,1]; save a mask as one channel"
        )
    chosen = range(slices) if slices == 1 or isinstance(page, str) else [check_page(path, slices, page, named)]
    in_pages = tuple(channels) if channels is not None and channel_axis is not None else None
    in_samples = tuple(channels) if channels is not None and channel_axis is None else None
    check_channels(path, samples if channel_axis is None else sizes[channel_axis], channels)
    # The numbers of the pages by channel and slice.
    numbers = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    if channel_axis is not None:
        numbers = np.moveaxis(numbers, list(sizes).index(channel_axis), 0)
    table = numbers.reshape(-1, slices)[list(in_pages or [0])][:, list(chosen)].tolist()
    number = table[0][0]
    if series is None:
        first = file.pages[number]
    else:
        first = series.pages[number] if _has_page(series, number) else file.pages.first
    if first is None:
        raise ValueError(f"page {number} is missing")
    return TiffPlanes(first.aspage(), table, in_samples, page if isinstance(page, str) else None, series)


def _axes(file: tifffile.TiffFile) -> tuple[dict[str, int], tifffile.TiffPageSeries | None]:
    """{axis: length} of the pages, in their order, and the series of all of them, if there is one."""
    total = len(file.pages)
    if total == 1 and not _has_further_pages(file):
        return {}, None
    if len(file.series) == 1:
        series = file.series[0]
        sizes = {a: n for a, n in zip(series.axes, series.shape, strict=True) if a not in "YXS" and n > 1}
        if math.prod(sizes.values()) == total or total == 1:
            return sizes, series
    return {"I": total}, None


def _has_further_pages(file: tifffile.TiffFile) -> bool:
    """Whether values of other pages follow the only one that has a header, as in large stacks of ImageJ."""
    text = file.pages.first.description
    return '"truncated": true' in text or (text.startswith("ImageJ=") and "images=" in text)


def _has_page(series: tifffile.TiffPageSeries, number: int) -> bool:
    try:
        return number == 0 or series.pages[number] is not None
    except IndexError:
        return False


def check_page(path: Path, pages: int, page: Page, axes: str = "") -> int:
    """The chosen page. Raises: DataError when none was chosen, or it does not exist."""
    if page is None or isinstance(page, str):
        raise DataError(
            f"{path}: holds {pages} pages{axes}; expected one. Choose the same page of all files with data.page, "
            "counted from 0; where they are slices of a volume, all of them with data.projection=max; where "
            "they are channels of an image, up to three with data.channels=[0,1,2]; save masks of one object a "
            "page as a file each"
        )
    if page >= pages:
        raise DataError(
            f"{path}: holds {pages} pages{axes}, so data.page={page} does not exist; pages are counted from 0"
        )
    return page


def check_channels(path: Path, count: int, channels: Sequence[int] | None) -> None:
    """Raises: DataError for a channel that does not exist."""
    if channels is not None and max(channels) >= count:
        raise DataError(
            f"{path}: has {count} channel{'' if count == 1 else 's'}, so data.channels={list(channels)} does not "
            "exist; channels are counted from 0"
        )
