"""Reads windows of an image file with the pixels that `read_image` gives for the whole image."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sam_ft.data.io.decoding import (
    SIDEWAYS,
    Header,
    any_number_of_pixels,
    apply_orientation,
    decode,
    errors_as_data_error,
    is_deep_png,
    open_with_pillow,
    read_header,
)
from sam_ft.data.io.images import as_rgb, check_reading, image_tensor, to_rgb, without_alpha
from sam_ft.data.io.intensities import check_finite, intensity_limits, scale_to_8_bits
from sam_ft.data.io.nodata import missing_pixels, nodata_of
from sam_ft.data.io.percentiles import percentiles_in_passes
from sam_ft.data.io.tiff import can_decompress, has_plain_values, is_tiff, tiff_orientation
from sam_ft.data.io.tiff_planes import Page, TiffPlanes, open_tiff
from sam_ft.data.io.tiff_windows import TiffWindows
from sam_ft.types import Size
from sam_ft.utils.errors import DataError

DECODE_LIMIT = 2**31  # bytes that decoding may take where it needs the whole image, or a strip of it
SCAN_BYTES = 2**25  # of values that are looked at at once


class Windows(Protocol):
    """An image of which any window can be read: a file, or an array in memory."""

    size: Size

    def read(self, rows: slice, columns: slice, /) -> Tensor:
        """(3, h, w) uint8"""
        ...


class ArrayWindows:
    """The windows of an image in memory, (H, W, 3) uint8."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.size: Size = (image.shape[0], image.shape[1])
        self._image = image

    def read(self, rows: slice, columns: slice) -> Tensor:
        return image_tensor(self._image[rows, columns].copy())


class ImageWindows:
    """An image file, opened once, of which windows are read; use it in a `with` statement, or call `close`.

    Of a TIFF only the strips or tiles in a window are decoded. Of other formats, and of TIFFs of palettes or with
    codecs that tifffile lacks, the whole image is decoded at the first window and kept, where that takes at most
    `limit` bytes.

    intensity ... channels: see `read_image`; percentiles are those of the whole image, found without holding it. An
        image of several pages is decoded as a whole.

    Raises:
        DataError: the file cannot be read, or decoding it takes more memory.
        ConfigError: an option has another value.
    """

    def __init__(
        self,
        path: str | Path,
        intensity: str = "percentile",
        page: int | None = None,
        projection: str | None = None,
        channels: Sequence[int] | None = None,
        limit: int = DECODE_LIMIT,
    ) -> None:
        check_reading(intensity, page, projection, channels)
        self.path = Path(path)
        self.intensity = intensity
        self.page: Page = projection or page
        self.channels = channels
        self._tiff: TiffWindows | None = None
        self._samples: list[int] | None = None  # of those in the windows, where the file has others
        self._nodata: float | None = None
        with ExitStack() as opened, errors_as_data_error(self.path), any_number_of_pixels():
            header = read_header(self.path, self.page, channels)
            self.size: Size = header.size
            planes = None
            if is_tiff(self.path):
                planes = opened.enter_context(open_tiff(self.path, self.page, channels))
                self._nodata = nodata_of(planes.first)
                plain = has_plain_values(planes.first) and can_decompress(self.path, planes.first)
                if plain and planes.single:
                    self._orientation = tiff_orientation(planes.first)
                    bands = planes.first.samplesperpixel
                    self._samples = None if planes.samples is None else list(planes.samples)
                    bands = bands if self._samples else 3 if bands >= 3 else 1
                    self._tiff = TiffWindows(planes.first, bands, limit)
            if self._tiff is None:
                self._check_memory(header, planes, limit)
            self._opened = opened.pop_all()  # stays open, unless an error was raised

    def __enter__(self) -> "ImageWindows":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; no window can be read any more."""
        self._opened.close()
        self.__dict__.pop("_decoded", None)

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        """A window as of a tensor (3, H, W): channels, rows, columns, each by a slice."""
        channels, *place = window
        return self.read(*_whole_slices(place, self.size))[channels]

    def read(self, rows: slice, columns: slice) -> Tensor:
        """(3, h, w) uint8: the pixels of these rows and columns of the upright image.

        Raises: DataError when the file cannot be decoded, or its values cannot be scaled.
        """
        picture = self._tiff is None and self._decoded
        if isinstance(picture, Image.Image):
            box = (columns.start, rows.start, columns.stop, rows.stop)
            return image_tensor(to_rgb(self.path, picture.crop(box)))
        values = self._values(rows, columns)
        if values.dtype != np.uint8:
            parts = zip(self._scaled_together(values), self._limits, strict=True)
            missing = missing_pixels(values, self._nodata)
            values = np.dstack([scale_to_8_bits(part, *limits, missing) for part, limits in parts])
        return image_tensor(as_rgb(values))

    @property
    def values(self) -> "ImageValues":
        """The values of the file, with all bits."""
        return ImageValues(self)

    def read_values(self, rows: slice, columns: slice) -> Tensor:
        """(C, h, w) of the upright image, C = 1 to 3: the values before they are scaled to 8 bits, without alpha."""
        if self._tiff is None and isinstance(self._decoded, Image.Image):
            return self.read(rows, columns)[: 1 if self._decoded.mode in ("1", "L", "LA") else 3]
        values = self._values(rows, columns)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0), values.dtype.newbyteorder("=")))

    @cached_property
    def _decoded(self) -> Image.Image | NDArray:
        """The whole image, upright, without alpha, where it has no segments."""
        with any_number_of_pixels():
            image = decode(self.path, self.page, self.channels)
        return image if isinstance(image, Image.Image) or self.channels is not None else without_alpha(image)

    def _values(self, rows: slice, columns: slice) -> NDArray:
        """(h, w, bands) of the upright image, with all bits."""
        if self._tiff is None:
            return np.asarray(self._decoded)[rows, columns]
        stored_rows, stored_columns = _stored_window(rows, columns, self.size, self._orientation)
        with errors_as_data_error(self.path):
            values = apply_orientation(self._tiff.read(stored_rows, stored_columns), self._orientation)
        return values if self._samples is None else values[..., self._samples]

    def _scaled_together(self, values: NDArray) -> list[NDArray]:
        """(h, w, bands) in the parts that have one scale: chosen channels each by themselves."""
        return [values] if self.channels is None else np.split(values, values.shape[-1], axis=-1)

    def _stored_bands(self) -> Iterator[NDArray]:
        """All values with data as they are stored, some rows at a time."""
        source: Any = self._tiff
        if source is None:
            yield self._with_data(np.asarray(self._decoded))
            return
        row_bytes = source.size[1] * source.bands * source.dtype.itemsize
        # Whole segments: no segment is decoded twice.
        step = max(1, SCAN_BYTES // (row_bytes * source.segment[0])) * source.segment[0]
        for start in range(0, source.size[0], step):
            with errors_as_data_error(self.path):
                part = source.read(slice(start, min(start + step, source.size[0])), slice(0, source.size[1]))
            yield self._with_data(part if self._samples is None else part[..., self._samples])

    def _with_data(self, values: NDArray) -> NDArray:
        missing = missing_pixels(values, self._nodata)
        return values if missing is None else values[~missing]

    @cached_property
    def _limits(self) -> list[tuple[float, float]]:
        """The values of the whole image that become 0 and 255, of all bands or of each channel."""
        return [self._limits_of(number) for number in range(1 if self.channels is None else len(self.channels))]

    def _limits_of(self, number: int) -> tuple[float, float]:
        def stored() -> Iterator[NDArray]:
            return (self._scaled_together(values)[number] for values in self._stored_bands())

        bad, count, low, high = 0, 0, np.inf, -np.inf
        for values in stored():
            if values.size:
                bad += int(np.count_nonzero(~np.isfinite(values)))
                count += values.size
                low, high, dtype = min(low, values.min()), max(high, values.max()), values.dtype
        check_finite(self.path, bad)
        if not count:
            return 0.0, 0.0  # no pixel has data: all of them are black
        return intensity_limits(
            self.path,
            self.intensity,
            dtype,
            (float(low), float(high)),
            lambda percents: percentiles_in_passes(stored, dtype, count, percents),
        )

    def _check_memory(self, header: Header, planes: TiffPlanes | None, limit: int) -> None:
        """Refuses an image that must be decoded as a whole and takes too much memory for that. Raises: DataError"""
        size = self.size
        if planes is not None and not planes.single:
            kind, pixel = "several pages of a TIFF", planes.bytes_per_pixel
        else:
            with open_with_pillow(self.path, self.page) as image:
                mode, kind = image.mode, str(image.format)
            # Bytes of a pixel while it is decoded: Pillow keeps all colors in four.
            pixel = 20 if is_deep_png(self.path) else 12 if mode == "F" or mode.startswith("I") else 4
            if mode in ("1", "L", "P"):
                pixel = 1
        needed = size[0] * size[1] * pixel * (2 if header.orientation > 1 else 1)
        if needed > limit:
            advice = "save it as a tiled TIFF" + (
                " of gray or RGB values without compression" if kind == "TIFF" else ""
            )
            raise DataError(
                f"{self.path}: is {size[1]} wide and {size[0]} high, and decoding {kind} as a whole takes "
                f"{needed / 1e9:.1f} GB; expected at most {limit / 1e9:.1f} GB, so "
                f"{advice if planes is None or planes.single else 'choose one page, or cut it into tiles'}"
            )


class ImageValues:
    """The values (C, H, W) of an image file, of which windows are read as of a tensor."""

    def __init__(self, image: ImageWindows) -> None:
        self._image = image

    def __getitem__(self, window: tuple[slice, slice, slice]) -> Tensor:
        channels, *place = window
        return self._image.read_values(*_whole_slices(place, self._image.size))[channels]


def _whole_slices(place: Sequence[slice], size: Size) -> Iterator[slice]:
    """Slices of rows and columns with start and stop."""
    starts_stops = (axis.indices(length)[:2] for axis, length in zip(place, size, strict=True))
    return (slice(start, max(start, stop)) for start, stop in starts_stops)


def _stored_window(rows: slice, columns: slice, size: Size, orientation: int) -> tuple[slice, slice]:
    """Rows and columns in the file of a window of the upright image; the inverse of `apply_orientation`."""
    if orientation in (3, 4, 7, 8):
        rows = slice(size[0] - rows.stop, size[0] - rows.start)
    if orientation in (2, 3, 6, 7):
        columns = slice(size[1] - columns.stop, size[1] - columns.start)
    return (columns, rows) if orientation in SIDEWAYS else (rows, columns)
