"""Tables of measurements: a CSV with a row for each object."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from sam_ft.data.sources.names import printable
from sam_ft.utils.files import atomic_path
from sam_ft.writers.instances import Instances, Pixels

SHAPE_COLUMNS = [  # scikit-image's names, in pixels and radians
    "area",
    "perimeter",
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "solidity",
    "equivalent_diameter_area",
]
COLUMNS = [
    *("file", "label", "class", "score"),
    *("centroid-0", "centroid-1", "bbox-0", "bbox-1", "bbox-2", "bbox-3"),
    *SHAPE_COLUMNS,
]


def write_table(path: Path, instances: Instances) -> None:
    """Writes the properties of each object, named as by scikit-image's `regionprops_table`.

    "label" is the number of the object in its label image. A mask is measured as a whole, also where it overlaps
    others. With `instances.values`, "intensity_mean-0" and so on are the means of each channel, as the file has it.
    """
    rows = list(_measure(instances))
    # Without objects the number of channels is not known, nor needed.
    columns = [*COLUMNS, *(name for name in (rows[0] if rows else {}) if name not in COLUMNS)]
    _write_rows(path, columns, rows)


def merge_tables(path: Path, parts: Sequence[Path], classes: Mapping[int, str]) -> None:
    """Joins the tables of several images in order; one with fewer channels has empty cells. `classes` is not needed."""
    columns: dict[str, None] = {}
    for part in parts:
        with open(part, encoding="utf-8", newline="") as file:
            columns.update(dict.fromkeys(next(csv.reader(file))))
    _write_rows(path, list(columns) or COLUMNS, (row for part in parts for row in _read_rows(part)))


def _measure(instances: Instances) -> Iterator[dict[str, Any]]:
    names, scores = instances.class_names(), instances.short_scores()
    for position, (x0, y0, mask) in enumerate(instances.crops()):
        height, width = mask.shape
        window = _window(instances.values, x0, y0, mask)
        region = regionprops(mask.astype(np.uint8), window)[0]
        numbers = {
            "centroid-0": y0 + region.centroid[0],
            "centroid-1": x0 + region.centroid[1],
            **dict(zip((f"bbox-{i}" for i in range(4)), (y0, x0, y0 + height, x0 + width), strict=True)),
            **{name: region[name] for name in SHAPE_COLUMNS},
        }
        if window is not None:
            numbers |= {f"intensity_mean-{channel}": mean for channel, mean in enumerate(region.intensity_mean)}
        yield {
            "file": printable(instances.file),
            "label": position + 1,
            "class": names[position],
            "score": scores[position],
            # Ten digits: the last ones of a float64 differ between processors.
            **{name: format(float(number), ".10g") for name, number in numbers.items()},
        }


def _window(values: Pixels | None, x0: int, y0: int, mask: NDArray) -> NDArray | None:
    """(h, w, C): the values around an object."""
    if values is None:
        return None
    return values[:, y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]].permute(1, 2, 0).numpy()


def _write_rows(path: Path, columns: Sequence[str], rows: Any) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
