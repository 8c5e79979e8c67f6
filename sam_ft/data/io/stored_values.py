"""Reads the values of a mask file: those stored, or those shown where the two disagree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_ft.data.io.appearance import (
    AS_SHOWN,
    AS_STORED,
    BLACK_ELSEWHERE,
    IN_ALPHA,
    Remark,
    alpha_of_constant_colors,
    is_black_elsewhere,
    palette_levels,
)
from sam_ft.data.io.decoding import decode
from sam_ft.data.io.tiff import WHITE_IS_ZERO, can_decompress, is_tiff
from sam_ft.data.io.tiff_planes import Page, open_tiff
from sam_ft.utils.errors import DataError

UNSUPPORTED_MODES = tuple(f"Pillow mode {mode}" for mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"))
Remarks = tuple[Remark, ...]


def read_stored_values(
    path: Path, page: Page = None, shown_besides: Sequence[int] | None = None
) -> tuple[NDArray[np.integer], Remarks]:
    """The values of a mask, and remarks on how they were taken.

    shown_besides: read a palette by the brightness of its colors where that differs from its indices, but for these
        indices; None for the indices
    → (H, W) integers, or (H, W, 3) where the mask has colors; a palette has none.

    Raises: DataError when the file cannot be decoded in full, or has fractions.
    """
    mask = decode(path, page)
    if shown_besides is not None and isinstance(mask, Image.Image) and mask.mode == "P":
        values, remark = palette_levels(mask, shown_besides)
        return values, () if remark is None else (remark,)
    remarks: Remarks = ()
    if isinstance(mask, Image.Image) and mask.mode == "P" and is_black_elsewhere(mask):
        remarks = (BLACK_ELSEWHERE,)
    values = np.array(mask)
    kind = f"Pillow mode {mask.mode}" if isinstance(mask, Image.Image) else str(values.dtype)
    if values.dtype.kind not in "buif" or kind in UNSUPPORTED_MODES:
        raise DataError(
            f"{path}: the mask is stored as {kind}; expected one channel of integers. "
            "Save it as an 8-bit PNG with 0 and 255, or integer ids"
        )
    if bits := _inverted_bits(path, page):
        values, remarks = (values, (AS_SHOWN,)) if bits < 8 else (np.invert(values), (AS_STORED,))
    if (alpha := alpha_of_constant_colors(values)) is not None:
        values, remarks = alpha, (*remarks, IN_ALPHA)
    # Gray stored as RGB is accepted.
    if values.ndim == 3:
        values = values[..., : 1 if values.shape[-1] == 2 else 3]  # without alpha
        values = values[..., 0] if (values == values[..., :1]).all() else values
    if values.dtype.kind == "f":
        return _whole_numbers(path, values), remarks
    return values.astype(np.uint8) if values.dtype.kind == "b" else values, remarks


def _inverted_bits(path: Path, page: Page) -> int:
    """The bits of a value in a white-is-zero TIFF, which `decode` inverts; 0 for other files."""
    if not is_tiff(path):
        return 0
    with open_tiff(path, page, None) as planes:
        tiff = planes.first
        bits = tiff.bitspersample
        if tiff.photometric != WHITE_IS_ZERO or not isinstance(bits, int) or np.dtype(tiff.dtype).kind not in "bu":
            return 0
        return bits if bits <= 8 or can_decompress(path, tiff) else 0  # Pillow inverts no more than 8 bits


def _whole_numbers(path: Path, values: NDArray) -> NDArray[np.integer]:
    """Floats without fractions as integers."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    if (wrong := whole != values).any():
        raise DataError(
            f"{path}: the mask is stored as {values.dtype} with fractions such as {values[wrong][0]:g}; expected whole "
            "numbers. Save it as an 8-bit PNG with 0 and 255, or integer ids"
        )
    return whole if whole.min() < 0 or whole.max() > 65535 else whole.astype(np.uint16)
