"""The values of masks: which are background, ignored or objects, and colors as numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.data.io.classes import Codes, list_codes, pack_code
from sam_ft.utils.errors import DataError

# (H, W), true at pixels that count in no loss and no score; None if there are none
IgnoreMask = NDArray[np.bool_] | None
COLORS = 1 << 24


def sort_values(
    values: NDArray[np.integer], ignore_index: Codes | None, background: Codes | None
) -> tuple[NDArray[np.integer], IgnoreMask]:
    """The values with 0 at ignored pixels and at the background, and the ignore mask.

    Where 0 is no background, its pixels get the next value after the largest.
    """
    if ignore_index is None and background is None:
        return values, None
    ignored = is_any(values, [code for code in list_codes(ignore_index, False) if isinstance(code, int)])
    none = ignored if ignored.any() else None
    if background is not None:
        codes = [code for code in list_codes(background, False) if isinstance(code, int)]
        absent = is_any(values, codes) | ignored
        zero = (values == 0) & ~absent
        if zero.any():
            values = np.where(zero, int(values[~absent].max()) + 1, values.astype(np.int64))
        return np.where(absent, values.dtype.type(0), values), none
    return (values, None) if none is None else (np.where(ignored, values.dtype.type(0), values), none)


def is_any(values: NDArray[np.integer], codes: Sequence[int]) -> NDArray[np.bool_]:
    """(H, W), true where a value is one of the codes."""
    if not codes:
        return np.zeros(values.shape, bool)
    return np.logical_or.reduce([values == code for code in codes])  # of few codes faster than `np.isin`


def unique_values(values: NDArray[np.integer]) -> list[int]:
    """The distinct values, ascending."""
    if values.dtype.kind == "u" and values.itemsize <= 2:  # counting is ten times faster than sorting
        return np.flatnonzero(np.bincount(values.ravel())).tolist()
    if values.size > COLORS // 64 and values.min() >= 0 and values.max() < COLORS:
        present = np.zeros(COLORS, bool)
        present[values] = True
        return np.flatnonzero(present).tolist()
    return np.unique(values).tolist()


def pack_colors(rgb: NDArray[np.integer]) -> NDArray[np.int32]:
    """(H, W, 3) → (H, W): red * 65536 + green * 256 + blue, as in `ClassMap`."""
    return rgb.astype(np.int32) @ np.array([65536, 256, 1], np.int32)


def number_colors(
    path: Path, rgb: NDArray[np.integer], ignore_index: Codes | None, background: Codes | None
) -> tuple[NDArray[np.uint16], IgnoreMask]:
    """(H, W): the colors of a mask numbered from 1, 0 for black or the background; the ignore mask.

    Raises: DataError for more than 8 bits, ids instead of colors, or colors that are no areas.
    """
    if rgb.dtype != np.uint8:
        raise DataError(f"{path}: the mask has colors of {rgb.dtype}; expected colors of 8 bits, or one channel of ids")
    codes = pack_colors(rgb)
    ignored = is_any(codes, _color_codes(path, "ignore_index", ignore_index))
    own_background = [0] if background is None else _color_codes(path, "background", background)
    absent = is_any(codes, own_background) | ignored
    present = np.zeros(COLORS, bool)
    present[codes[~absent]] = True
    found = np.flatnonzero(present)
    edges = edge_codes(codes, found.tolist())
    if len(edges) > max(2, len(found) - len(edges)) or len(found) > 65535:
        raise DataError(
            f"{path}: the mask has {len(found)} colors, of which {len(edges)} are only along edges: the edges are "
            "blended, as anti-aliasing and smooth resizing leave them, or this is a picture, and images and masks are "
            "swapped; expected one color for each object. Save the mask by nearest-neighbor interpolation, or check "
            "data.image_folder and data.mask_folder"
        )
    numbers = np.zeros(COLORS, np.uint16)
    numbers[found] = np.arange(1, len(found) + 1)
    ids = numbers[codes]
    ids[absent] = 0
    return ids, ignored if ignored.any() else None


def edge_codes(codes: NDArray[np.integer], found: Sequence[int]) -> list[int]:
    """Those of the codes that fill no area: no pixel of theirs is equal to its neighbors to the right and below."""
    same = (codes[:-1, :-1] == codes[1:, :-1]) & (codes[:-1, :-1] == codes[:-1, 1:])
    areas = set(unique_values(codes[:-1, :-1][same]))
    return [code for code in found if code not in areas]


def _color_codes(path: Path, option: str, value: Codes | None) -> list[int]:
    codes = list_codes(value, True)
    if any(isinstance(code, int) for code in codes):
        raise DataError(f"{path}: the mask has colors, but data.{option}={value}; expected a color [red, green, blue]")
    return [pack_code(f"data.{option}", code) for code in codes]
