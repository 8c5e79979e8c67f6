"""Reads the lines of a text file of YOLO's segmentation."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam_ft.data.sources.coco_issues import InvalidEntry
from sam_ft.data.sources.coco_masks import NORMALIZED
from sam_ft.types import Size
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

BOX = 4  # numbers
COMMAS = InvalidEntry("hold commas (expected a class and x y x y ..., with spaces between and decimal points)")


def read_lines(path: Path, size: Size) -> Iterator[tuple[int, Any, Any]]:
    """Number of the line, class, and polygon in pixels, or the reason why there is none.

    Raises: DataError when the file cannot be read.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected lines of YOLO's segmentation") from error
    for number, line in enumerate(lines, 1):
        first, *cells = line.split() or [""]
        if not first:
            continue
        if "," in line:
            first = first.partition(",")[0]
        category = int(float(first)) if re.fullmatch(r"\d{1,9}(\.0+)?", first) else first
        yield number, category, COMMAS if "," in line else _polygon_in_pixels(cells, size)


def _polygon_in_pixels(cells: list[str], size: Size) -> Any:
    try:
        shares = [float(cell) for cell in cells]
    except ValueError:
        return InvalidEntry("have other things than numbers (expected a class and x y x y ...)")
    if len(shares) == BOX:
        return InvalidEntry("hold a box alone (expected a class and x y x y x y ..., as YOLO's segmentation has them)")
    if not all(map(math.isfinite, shares)) or max(map(abs, shares), default=0) > NORMALIZED:
        return InvalidEntry("have coordinates beyond 0 and 1 (expected x / width and y / height)")
    return [[share * size[1 - place % 2] for place, share in enumerate(shares)]]
