"""Reads windows of a TIFF page and decodes only the strips or tiles that they touch."""

import math
from collections import OrderedDict
from itertools import product

import numpy as np
import tifffile
from numpy.typing import NDArray

from sam_ft.data.io.tiff import WHITE_IS_ZERO
from sam_ft.utils.errors import DataError

KEPT_BYTES = 2**28  # of decoded segments
RAW_ROWS = 64  # rows of a segment, where the values of a page lie uncompressed one after the other
JPEG_CODECS = (6, 7, 33007, 34892)  # compressions whose tables lie outside of the segments


class TiffWindows:
    """The values of a page as `read_tiff_values` gives them, window by window; the last segments are kept.

    A segment is a strip or a tile, of one band where the page is planar. Uncompressed strips are read in parts.

    bands: that are read; later ones are left out · limit: bytes of one decoded segment

    Raises: DataError when a segment is larger; ValueError when the page is no plain image.
    """

    def __init__(self, tiff: tifffile.TiffPage, bands: int, limit: int) -> None:
        if tiff.axes not in ("YX", "YXS", "SYX") or tiff.dtype is None or tiff.dtype.kind not in "uif":
            raise ValueError(f"its axes are {tiff.axes} and its values {tiff.dtype}; expected a plain image")
        self.tiff = tiff
        self.bands = bands
        self.size = (tiff.imagelength, tiff.imagewidth)
        self.dtype = np.dtype(tiff.dtype)
        self._planar = tiff.axes == "SYX"
        self._stored_bands = 1 if self._planar else tiff.samplesperpixel
        self._raw = tiff.is_final and not tiff.is_tiled
        if self._raw:
            self.segment = (min(RAW_ROWS, self.size[0]), self.size[1])
        elif tiff.is_tiled:
            self.segment = (tiff.tilelength, tiff.tilewidth)
        else:
            self.segment = (min(tiff.rowsperstrip, self.size[0]), self.size[1])
        needed = math.prod(self.segment) * self._stored_bands * self.dtype.itemsize
        if needed > limit:
            raise DataError(
                f"{tiff.parent.filehandle.path}: is {self.size[1]} wide and {self.size[0]} high in strips of "
                f"{self.segment[0]} rows, of which one takes {needed / 1e9:.1f} GB; expected at most "
                f"{limit / 1e9:.1f} GB, so save it as a tiled TIFF"
            )

        # All in one block: between the arrays of windows they would leave a heap of 2.4 GB with holes.
        planes = self.bands if self._planar else 1
        segments = planes * math.prod(-(-n // side) for n, side in zip(self.size, self.segment, strict=True))
        count = min(segments, max(1, KEPT_BYTES // needed))
        self._kept = np.empty((count, *self.segment, self._stored_bands), self.dtype)
        self._places: OrderedDict[tuple[int, int, int], int] = OrderedDict()  # of a segment in the block

    def read(self, rows: slice, columns: slice) -> NDArray:
        """(h, w, bands) as stored, without the bands that are left out; a white-is-zero page is inverted."""
        height, width = self.segment
        values = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.bands), self.dtype)
        places = product(
            range(self.bands if self._planar else 1),
            range(rows.start // height, -(-rows.stop // height)),
            range(columns.start // width, -(-columns.stop // width)),
        )
        for plane, down, across in places:
            segment = self._segment(plane, down, across)
            # The part of the segment that lies in the window, in rows and columns of the image.
            top, left = down * height, across * width
            y0, x0 = max(rows.start, top), max(columns.start, left)
            y1, x1 = min(rows.stop, top + height), min(columns.stop, left + width)
            bands = slice(plane, plane + 1) if self._planar else slice(None)
            part = segment[y0 - top : y1 - top, x0 - left : x1 - left, : self.bands]
            values[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start, bands] = part
        # ~x of an unsigned number is its largest value minus x.
        inverted = self.tiff.photometric == WHITE_IS_ZERO and self.dtype.kind == "u"
        return np.invert(values, out=values) if inverted else values

    def _segment(self, plane: int, down: int, across: int) -> NDArray:
        """(h, w, bands), kept for the next windows as long as there is room; rows below the image are arbitrary."""
        key = (plane, down, across)
        if key not in self._places:
            segment = self._read_rows(plane, down) if self._raw else self._decode(plane, down, across)
            full = len(self._places) == len(self._kept)
            place = self._places.popitem(last=False)[1] if full else len(self._places)
            self._kept[place, : len(segment)] = segment
            self._places[key] = place
        self._places.move_to_end(key)
        return self._kept[self._places[key]]

    def _read_rows(self, plane: int, down: int) -> NDArray:
        """The rows of a part of uncompressed strips, read from their place in the file."""
        start = down * self.segment[0]
        rows = min(self.segment[0], self.size[0] - start)
        row_values = self.size[1] * self._stored_bands
        offset = self.tiff.dataoffsets[0] + (plane * self.size[0] + start) * row_values * self.dtype.itemsize
        stored = self.dtype.newbyteorder(self.tiff.parent.byteorder)
        values = self.tiff.parent.filehandle.read_array(stored, rows * row_values, offset)
        return values.astype(self.dtype, copy=False).reshape(rows, self.size[1], self._stored_bands)

    def _decode(self, plane: int, down: int, across: int) -> NDArray:
        tiff = self.tiff
        per_row = -(-self.size[1] // self.segment[1])
        index = (plane * -(-self.size[0] // self.segment[0]) + down) * per_row + across
        if not tiff.databytecounts[index]:  # not stored: it holds the value for no data
            return np.full((*self.segment, self._stored_bands), tiff.nodata, self.dtype)
        file = tiff.parent.filehandle
        file.seek(tiff.dataoffsets[index])
        data = file.read(tiff.databytecounts[index])
        if tiff.compression in JPEG_CODECS:
            decoded = tiff.decode(data, index, jpegtables=tiff.jpegtables, jpegheader=tiff.jpegheader)[0]
        else:
            decoded = tiff.decode(data, index)[0]
        assert decoded is not None  # only without data
        return decoded[0]  # without the axis of depth
