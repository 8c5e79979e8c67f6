"""Reads a mask: binary, with instance ids, or with classes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_ft.data.io.classes import ClassMap, Codes
from sam_ft.data.io.decoding import decode, read_header
from sam_ft.data.io.images import read_image
from sam_ft.data.io.mask_values import (
    IgnoreMask,
    edge_codes,
    is_any,
    number_colors,
    pack_colors,
    sort_values,
    unique_values,
)
from sam_ft.data.io.tiff_planes import Page
from sam_ft.utils.errors import DataError

UNSUPPORTED_MODES = tuple(f"Pillow mode {mode}" for mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"))
JPEG_ERROR = 15  # largest change of black and white areas by JPEG; it is 5 at quality 10


def read_mask(path: Path, page: Page = None) -> NDArray[np.integer]:
    """The stored values of a mask; of a palette its indices, not its colors.

    → (H, W) integers. Raises: DataError when the file cannot be decoded in full, has colors, or has fractions.
    """
    values = _decode_mask(path, page)
    if values.ndim == 3:
        raise DataError(
            f"{path}: the mask has colors; expected one value per pixel. Save it as a single channel: 0 and 255 "
            "for one kind of object, or integer ids. If each color is a class, set data.objects=classes and "
            "name the colors in data.classes; if each object has a color of its own, set data.objects=instances"
        )
    return values


def _decode_mask(path: Path, page: Page) -> NDArray[np.integer]:
    """(H, W) integers, or (H, W, 3) where the mask has colors."""
    mask = decode(path, page)
    values = np.array(mask)
    kind = f"Pillow mode {mask.mode}" if isinstance(mask, Image.Image) else str(values.dtype)
    if values.dtype.kind not in "buif" or kind in UNSUPPORTED_MODES:
        raise DataError(
            f"{path}: the mask is stored as {kind}; expected one channel of integers. "
            "Save it as an 8-bit PNG with 0 and 255, or integer ids"
        )
    # Gray stored as RGB is accepted.
    if values.ndim == 3:
        values = values[..., : 1 if values.shape[-1] == 2 else 3]  # without alpha
        values = values[..., 0] if (values == values[..., :1]).all() else values
    if values.dtype.kind == "f":
        return _whole_numbers(path, values)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _whole_numbers(path: Path, values: NDArray[np.floating]) -> NDArray[np.integer]:
    """Floats without fractions as integers."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    if (wrong := whole != values).any():
        raise DataError(
            f"{path}: the mask is stored as {values.dtype} with fractions such as {values[wrong][0]:g}; expected whole "
            "numbers. Save it as an 8-bit PNG with 0 and 255, or integer ids"
        )
    return whole if whole.min() < 0 or whole.max() > 65535 else whole.astype(np.uint16)


def read_binary_mask(
    path: Path, ignore_index: Codes | None = None, page: Page = None, background: Codes | None = None
) -> tuple[NDArray[np.bool_], IgnoreMask, bool]:
    """A mask of 0 and 1, 255 or the largest number of its type, or a lossy one near 0 and 255, thresholded at 127.

    JPEG does not keep 0 and 1 apart: at one quality in four, black becomes 1.

    ignore_index: further values, of pixels to ignore; with them the mask must be exact
    background: instead of 0; any other value is then the object
    → (H, W) bool, the ignore mask, and whether the mask was lossy. Raises: DataError when it has other values.
    """
    for option, given in (("ignore_index", ignore_index), ("background", background)):
        if given is not None:
            _refuse_jpeg(path, f"data.{option}={given} cannot be found in it")
    values, jpeg = read_mask(path, page), _is_jpeg(path)
    kept, ignored = sort_values(values, ignore_index, background)
    present = unique_values(kept)
    objects = set(present) - {0}
    of_one_value = objects <= {255} or objects <= {np.iinfo(values.dtype).max} or (objects <= {1} and not jpeg)
    if of_one_value or (background is not None and len(objects) == 1):
        return kept > 0, ignored, False
    values = _eight_bits(values)
    # Not exact: perhaps lossy, with values near 0 and 255, and gray edges.
    if ignore_index is None and background is None and _is_lossy(values, jpeg):
        return values > 127, None, True
    shown = ", ".join(map(str, present[:8])) + (", ..." if len(present) > 8 else "")
    if jpeg:
        raise DataError(
            f"{path}: the mask has the values {shown}; expected values near 0 and near 255, as JPEG stores 0 and "
            "255. JPEG loses 0 and 1, and ids of instances or classes: save such masks as PNG, from the originals"
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
) -> tuple[NDArray[np.integer], IgnoreMask]:
    """An image of instance ids, 0 for the background, or of a color for each instance and black for the background.

    ignore_index, background: see `Rules`
    → (H, W) integers in [0, 65535], and the ignore mask. Raises: DataError for a JPEG, or ids out of range.
    """
    _refuse_jpeg(path, "instance ids in it are lost; save the ids as PNG")
    values = _decode_mask(path, page)
    if values.ndim == 3:
        return number_colors(path, values, ignore_index, background)
    values, ignored = sort_values(values, ignore_index, background)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path}: instance ids go from {low} to {high}; expected 0 (background) to 65535")
    return values if values.itemsize == 1 else values.astype(np.uint16, copy=False), ignored


def read_class_mask(path: Path, classes: ClassMap, page: Page = None) -> tuple[NDArray[np.integer], IgnoreMask]:
    """A mask in which each value, or each color, is a class.

    → (H, W) the position of the class in `classes`, from 1, and 0 for the background; the ignore mask
    Raises: DataError with the ids or colors that are not in `classes`, and their numbers of pixels.
    """
    codes = read_class_codes(path, classes.are_colors, page)
    # From codes to positions: ids may have gaps, colors are 24 bits.
    places = np.zeros(codes.shape, np.uint16)
    for place, code in enumerate(classes.codes, 1):
        places[codes == code] = place
    ignored = is_any(codes, classes.ignored)
    unknown = (places == 0) & ~ignored & ~is_any(codes, classes.background)
    if classes.other == "ignore":
        ignored |= unknown
    elif classes.other == "error" and unknown.any():
        raise DataError(f"{path}: {_describe_unknown(codes, unknown, classes)}")
    return places, ignored if ignored.any() else None


def _describe_unknown(codes: NDArray[np.integer], unknown: NDArray[np.bool_], classes: ClassMap) -> str:
    """Problem and advice about the pixels of other codes than those of `classes`."""
    found, counts = (column.tolist() for column in np.unique(codes[unknown], return_counts=True))
    edges = edge_codes(codes, found) if classes.are_colors else []
    if len(edges) > max(2, len(found) / 2):
        share = sum(counts) / codes.size
        return (
            f"{len(found)} colors, of {share:.1%} of the pixels, are not in data.classes, and {len(edges)} of them are "
            "only along edges: the edges are blended, as anti-aliasing and smooth resizing leave them; save the mask "
            "without them, by nearest-neighbor interpolation, or leave these pixels out with data.other=ignore"
        )
    shown = [f"{classes.format_code(code)} ({count} pixels)" for code, count in zip(found[:8], counts, strict=False)]
    return (
        f"the {'colors' if classes.are_colors else 'class ids'} {', '.join(shown)}"
        f"{f' and {len(found) - 8} more' if len(found) > 8 else ''} are not in data.classes, which has {classes}; "
        "add these values to data.classes, ignore some of them with data.ignore_index, or all others with "
        "data.other=ignore, or make them background with data.other=background"
    )


def read_class_codes(path: Path, colors: bool, page: Page = None) -> NDArray[np.integer]:
    """(H, W): ids of a class mask, or its colors as red * 65536 + green * 256 + blue, so black is 0."""
    _refuse_jpeg(path, "classes in it are lost; save the mask as PNG")
    if not colors:
        return read_mask(path, page)
    if read_header(path, page).dtype != np.uint8:
        raise DataError(
            f"{path}: the mask has more than 8 bits per value; expected colors of 8 bits, as in data.classes"
        )
    return pack_colors(read_image(path, page=page if isinstance(page, int) else None))


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg", ".jfif")


def _refuse_jpeg(path: Path, why: str) -> None:
    if _is_jpeg(path):
        raise DataError(f"{path}: JPEG changes pixel values, so {why}")


def _is_lossy(values: NDArray[np.integer], jpeg: bool) -> bool:
    """Whether a binary mask went through JPEG or a smooth resize: it has in-between values, but only along edges.

    Ids of classes or instances fill areas, so most of their in-between pixels equal the neighbors to the right and
    below; along a blurred edge few do. A gray picture has more in-between pixels than white ones. JPEG rounds all
    black areas to one value near 0, which is the only value of an empty mask. In other formats a value such as 1 may
    be an id, unless there are gray edges.
    """
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255 or (high < 255 - JPEG_ERROR and not (jpeg and low == high <= JPEG_ERROR)):
        return False
    # The most frequent value near 0 is the black of this JPEG.
    black = int(np.bincount(values.ravel().astype(np.uint8), minlength=JPEG_ERROR + 1)[: JPEG_ERROR + 1].argmax())
    white, between = (values >= 192).sum(), ((values >= 64) & (values < 192)).sum()
    gray = (values > JPEG_ERROR) & (values < 255 - JPEG_ERROR)
    if not (jpeg or gray.any()):
        black = 0
    # Pixels in between, and those that equal both neighbors: areas, which a blurred edge lacks.
    soft = (gray | ((values <= JPEG_ERROR) & (values != black)))[:-1, :-1]
    same = (values[:-1, :-1] == values[1:, :-1]) & (values[:-1, :-1] == values[:-1, 1:])
    return bool(between <= white and (soft & same).sum() <= soft.sum() / 2)
