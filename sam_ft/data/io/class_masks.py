"""Reads a mask in which each value, or each color, is a class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_ft.data.io.appearance import IN_ALPHA, Remark, alpha_of_constant_colors
from sam_ft.data.io.classes import ClassMap
from sam_ft.data.io.decoding import decode, read_header
from sam_ft.data.io.images import read_image
from sam_ft.data.io.lossy import refuse_lossy
from sam_ft.data.io.mask_values import IgnoreMask, edge_codes, is_any, pack_colors, unique_values
from sam_ft.data.io.masks import read_gray, refuse_mean
from sam_ft.data.io.plausible import refuse_picture
from sam_ft.data.io.stored_values import Remarks
from sam_ft.data.io.tiff_planes import Page
from sam_ft.utils.errors import DataError

MOSTLY = 4  # pixels of other values than those of the classes, for each of a class; a mask with blended edges has fewer
BLENDED = Remark(
    "has values that are not in data.classes along its edges",
    "have values that are not in data.classes along their edges",
    "the edges are blended, as anti-aliasing and smooth resizing leave them, and such pixels are background",
    "data.other=ignore leaves them out; better save the masks by nearest-neighbor interpolation",
    "warning",
)


def read_class_mask(
    path: Path, classes: ClassMap, page: Page = None
) -> tuple[NDArray[np.integer], IgnoreMask, Remarks]:
    """The classes of a mask file.

    → (H, W) the position of the class in `classes`, from 1, and 0 for the background; the ignore mask; remarks
    Raises: DataError with the ids or colors that are not in `classes`, and their numbers of pixels.
    """
    codes, remarks = read_class_codes(path, classes.are_colors, page)
    # From codes to positions: ids may have gaps, colors are 24 bits.
    places = np.zeros(codes.shape, np.uint16)
    for place, code in enumerate(classes.codes, 1):
        places[codes == code] = place
    ignored = is_any(codes, classes.ignored)
    unknown = (places == 0) & ~ignored & ~is_any(codes, classes.background)
    if np.count_nonzero(unknown) > MOSTLY * np.count_nonzero(places):
        refuse_picture(path, codes)
    if classes.other == "ignore":
        ignored |= unknown
    elif classes.other == "error" and unknown.any():
        raise DataError(f"{path}: {_describe_unknown(codes, unknown, classes)}")
    elif unknown.any() and _count_blended(codes, unique_values(codes[unknown])):
        remarks = (*remarks, BLENDED)
    return places, ignored if ignored.any() else None, remarks


def _describe_unknown(codes: NDArray[np.integer], unknown: NDArray[np.bool_], classes: ClassMap) -> str:
    """Problem and advice about the pixels of other codes than those of `classes`."""
    found, counts = (column.tolist() for column in np.unique(codes[unknown], return_counts=True))
    if edges := _count_blended(codes, found):
        share, kind = sum(counts) / codes.size, "colors" if classes.are_colors else "class ids"
        return (
            f"{len(found)} {kind}, of {share:.1%} of the pixels, are not in data.classes, and {edges} of them are "
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


def _count_blended(codes: NDArray[np.integer], unknown: list[int]) -> int:
    """The number of unknown codes that are only along edges, or 0 where these are few."""
    edges = len(edge_codes(codes, unknown))
    return edges if edges > max(2, len(unknown) / 2) else 0


def read_class_codes(path: Path, colors: bool, page: Page = None) -> tuple[NDArray[np.integer], Remarks]:
    """(H, W): ids of a class mask, or its colors as red * 65536 + green * 256 + blue, so black is 0; and remarks."""
    refuse_lossy(path, "classes in it are lost; save the mask as PNG")
    if not colors:
        codes, remarks = read_gray(path, page)
        refuse_mean(path, page, codes)
        return codes, remarks
    if read_header(path, page).dtype != np.uint8:
        raise DataError(
            f"{path}: the mask has more than 8 bits per value; expected colors of 8 bits, as in data.classes"
        )
    codes = pack_colors(read_image(path, page=page if isinstance(page, int) else None))
    if (codes == codes[0, 0]).all() and (alpha := alpha_of_constant_colors(np.array(decode(path, page)))) is not None:
        return np.where(alpha > 127, codes, 0), (IN_ALPHA,)
    return codes, ()
