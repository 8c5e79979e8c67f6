"""Reads a mask that is binary or has instance ids; `class_masks` reads classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.data.io.appearance import BLACK_ELSEWHERE, IN_ALPHA, VOID, VOID_COLOR
from sam_ft.data.io.classes import Codes, list_codes
from sam_ft.data.io.lossy import LOSSY, is_lossy, is_nearly_gray, lossy_codec, refuse_lossy
from sam_ft.data.io.mask_values import IgnoreMask, number_colors, pack_colors, sort_values, unique_values
from sam_ft.data.io.plausible import refuse_picture
from sam_ft.data.io.stored_values import Remarks, read_stored_values
from sam_ft.data.io.tiff_planes import Page
from sam_ft.utils.errors import DataError


def read_mask(path: Path, page: Page = None) -> NDArray[np.integer]:
    """The stored values of a mask; of a palette its indices, not its colors.

    → (H, W) integers. Raises: DataError when the file cannot be decoded in full, has colors, or has fractions.
    """
    return read_gray(path, page)[0]


def read_gray(
    path: Path, page: Page = None, shown_besides: list[int] | None = None
) -> tuple[NDArray[np.integer], Remarks]:
    """The same with remarks, see `read_stored_values`."""
    values, remarks = read_stored_values(path, page, shown_besides)
    if values.ndim == 3 and is_nearly_gray(values) and lossy_codec(path) is not None:
        values = np.rint(values.mean(-1)).astype(np.uint8)
    if values.ndim == 3:
        refuse_picture(path, pack_colors(values))
        raise DataError(
            f"{path}: the mask has colors; expected one value per pixel. Save it as a single channel: 0 and 255 "
            "for one kind of object, or integer ids. If each color is a class, set data.objects=classes and "
            "name the colors in data.classes; if each object has a color of its own, set data.objects=instances"
        )
    return values, remarks


def read_binary_mask(
    path: Path, ignore_index: Codes | None = None, page: Page = None, background: Codes | None = None
) -> tuple[NDArray[np.bool_], IgnoreMask, Remarks]:
    """A mask of 0 and 1, 255 or the largest number of its type, or a lossy one near 0 and 255, thresholded at 127.

    Lossy codecs do not keep 0 and 1 apart: of JPEG at one quality in four, black becomes 1. Of a palette the brightness
    counts.

    ignore_index: further values, of pixels to ignore; with them the mask must be exact
    background: instead of 0; any other value is then the object
    → (H, W) bool, the ignore mask, and remarks. Raises: DataError when it has other values.
    """
    for option, given in (("ignore_index", ignore_index), ("background", background)):
        if given is not None:
            refuse_lossy(path, f"data.{option}={given} cannot be found in it")
    ignored_values = [code for code in list_codes(ignore_index, False) if isinstance(code, int)]
    values, remarks = read_gray(path, page, ignored_values if background is None else None)
    kept, ignored = sort_values(values, ignore_index, background)
    present = unique_values(kept)
    objects = set(present) - {0}
    of_one_value = objects <= {255} or objects <= {np.iinfo(values.dtype).max}
    if of_one_value or (len(objects) == 1 and (background is not None or IN_ALPHA in remarks)):
        return kept > 0, ignored, remarks
    codec = lossy_codec(path)
    if objects <= {1} and codec is None:
        return kept > 0, ignored, remarks
    values = _eight_bits(values)
    # Not exact: perhaps lossy, with values near 0 and 255, and gray edges.
    if ignore_index is None and background is None and is_lossy(values, codec is not None):
        return values > 127, None, (*remarks, LOSSY)
    refuse_picture(path, values)
    shown = ", ".join(map(str, present[:8])) + (", ..." if len(present) > 8 else "")
    if codec is not None:
        raise DataError(
            f"{path}: the mask has the values {shown}; expected values near 0 and near 255, as {codec} stores 0 and "
            f"255. {codec} loses 0 and 1, and ids of instances or classes: save such masks as PNG, from the originals"
        )
    besides = "" if ignore_index is None else f" besides data.ignore_index={ignore_index}"
    raise DataError(
        f"{path}: the mask has the values {shown}{besides}; expected 0 and 1, or 0 and 255. Several values look like "
        "several classes or instances: if each value is one object, set data.objects=instances; if each is a class, "
        "set data.objects=classes; to ignore some of them, set data.ignore_index; if the background is not 0, set "
        "data.background"
    )


def _eight_bits(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """The values with 8 bits, where they are those of 8 bits in 16."""
    deep = values.dtype == np.uint16 and not (values % 257).any()  # 257 * 255 = 65535
    return (values // 257).astype(np.uint8) if deep else values


def read_instance_mask(
    path: Path, ignore_index: Codes | None = None, page: Page = None, background: Codes | None = None
) -> tuple[NDArray[np.integer], IgnoreMask, Remarks]:
    """An image of instance ids, 0 for the background, or of a color for each instance and black for the background.

    ignore_index, background: see `Rules`
    → (H, W) integers in [0, 65535], the ignore mask, and remarks. Raises: DataError for a lossy codec, or other ids.
    """
    refuse_lossy(path, "instance ids in it are lost; save the ids as PNG")
    values, remarks = read_stored_values(path, page)
    refuse_mean(path, page, values)
    if background is not None:
        remarks = tuple(remark for remark in remarks if remark is not BLACK_ELSEWHERE)
    if values.ndim == 3:
        ids, ignored = number_colors(path, values, ignore_index, background)
        void = (values == VOID).all(-1) & (ids > 0)
        return ids, ignored, (*remarks, VOID_COLOR) if void.any() else remarks
    values, ignored = sort_values(values, ignore_index, background)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        remedy = (
            f"name the negative ones with data.background or data.ignore_index, as data.background={low}"
            if low < 0
            else "number the objects of each image from 1"
        )
        raise DataError(f"{path}: instance ids go from {low} to {high}; expected 0 (background) to 65535; {remedy}")
    values = values if values.itemsize == 1 else values.astype(np.uint16, copy=False)
    refuse_picture(path, values)
    return values, ignored, remarks


def refuse_mean(path: Path, page: Page, values: NDArray[np.integer]) -> None:
    """Refuses ids or classes that are the mean of different ones. Raises: DataError"""
    if page == "mean" and (values != read_stored_values(path, "max")[0]).any():
        raise DataError(
            f"{path}: the pages differ, and the mean of ids or classes is another one; set data.projection=max, or "
            "choose a page with data.page"
        )
