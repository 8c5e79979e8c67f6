"""A table whose masks are run lengths, as on Kaggle: "start length start length ...", counted from 1."""

import logging
import os
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.data.io.objects import label_components
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.annotated import AnnotatedImages, size_or_none
from sam_ft.data.sources.coco_file import CocoFile, CocoRules, read_coco
from sam_ft.data.sources.coco_issues import InvalidEntry
from sam_ft.data.sources.coco_split import CocoSplit
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.run_lengths import are_of_other_order, compress_ids, count_steps
from sam_ft.data.sources.table_files import TableFiles
from sam_ft.data.sources.table_rows import Row
from sam_ft.types import OBJECT, Size
from sam_ft.utils.errors import ConfigError, DataError

log = logging.getLogger("sam_ft")

RUNS = re.compile(r"\d{1,15}( +\d{1,15})+")
CHECKED = 100  # rows
EMPTY = ("", "-1", "-1.0", "nan", "na", "n/a", "<na>", "none", "null", "0", "0 0")  # cells of an image without objects
OF_FILES = ("ignore_index", "background", "page", "projection", "channels", "invert")  # options for files alone
ORDERS = {"columns": "down the columns", "rows": "along the rows"}


def holds_run_lengths(rows: Sequence[Row]) -> bool:
    """Whether the masks of most rows are run lengths."""
    cells = [row.mask for row in rows if not _is_empty(row.mask)]
    return 2 * sum(_runs(cell) is not None for cell in cells) > len(cells)


def _is_empty(cell: str) -> bool:
    return cell.strip("[]() ").lower() in EMPTY


def _runs(cell: str) -> NDArray[np.int64] | None:
    """The numbers of a cell, also where they are written as a list or as floats; None where it holds other things."""
    text = re.sub(r"\.0+(?=[ ,]|$)", "", cell.strip("[]() "))
    text = re.sub(r" *, *| +", " ", text)
    return np.array(text.split(), np.int64) if RUNS.fullmatch(text) else None


class RunLengthTable(AnnotatedImages):
    """The checked rows of a table, each with an object.

    labels: {label: id} · rules: of the table, of which objects may be "whole" or "components"
    order: in which pixels are counted, see `ORDERS`
    """

    def __init__(
        self,
        files: TableFiles,
        rows: Sequence[Row],
        labels: Mapping[str, int],
        rules: Rules,
        order: str,
        val_fraction: float,
        seed: int,
        tile: int | str | None,
    ) -> None:
        coco_rules = CocoRules(intensity=rules.intensity, on_bad=rules.on_bad)
        super().__init__(coco_rules, val_fraction, seed, tile)
        self.files, self.rows, self.labels = files, rows, labels
        self.objects, self.min_area, self.order = rules.objects, rules.min_area, order
        # Not `in`: page 0 equals False.
        given = [key for key in OF_FILES if not (getattr(rules, key) is None or getattr(rules, key) is False)]
        if rules.objects not in ("whole", "components") or given:
            found = [f"data.objects={rules.objects}", *(f"data.{key}={getattr(rules, key)}" for key in given)]
            raise ConfigError(
                f"{files.table}: its masks are run lengths, but {', '.join(found)}; expected data.objects=whole or "
                f"components, and none of {', '.join(f'data.{key}' for key in OF_FILES)}"
            )

    def place(self, split: str) -> Hashable:
        return None if all(row.split is None for row in self.rows) else split

    def read(self, place: Hashable) -> CocoFile:
        table, rows = self.files.table, [row for row in self.rows if place is None or row.split == place]
        if not rows:
            raise DataError(f"{table}: no row of {place or 'train or val'} can be used; expected some of both splits")
        paths = {row.image: self.files.path(row.image) for row in rows}
        folder = Path(os.path.commonpath([path.parent for path in paths.values()]))
        sizes = {path: size_or_none(path) for path in set(paths.values())}
        annotations: list[dict[str, Any]] = []
        for row in rows:
            path = paths[row.image]
            label = 1 if row.label is None else self.labels[row.label]
            for segmentation in self._segmentations(row.mask, sizes[path]):
                entry = {"id": f"line {row.line}, {len(annotations)}", "image_id": str(path), "category_id": label}
                annotations.append({**entry, "segmentation": segmentation})
        images = [
            {"id": str(path), "file_name": path.relative_to(folder).as_posix(), "height": size[0], "width": size[1]}
            for path in dict.fromkeys(paths.values())
            for size in [sizes[path]]
        ]
        names = {label_id: label for label, label_id in self.labels.items()} or OBJECT
        categories = [{"id": label_id, "name": name} for label_id, name in names.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        return read_coco(table, folder, content, self.rules)

    def _segmentations(self, cell: str, size: Size) -> list[Any]:
        """RLEs of the objects of a cell, or the reason why there are none."""
        if _is_empty(cell) or not size[0]:  # an image that cannot be read is a problem of its own
            return []
        given = _runs(cell)
        numbers = np.zeros(1, int) if given is None else given
        starts, lengths = numbers[::2] - 1, numbers[1::2]
        pixels = size[0] * size[1]
        if len(numbers) % 2 or (starts < 0).any() or (lengths < 0).any() or (starts + lengths > pixels).any():
            return [InvalidEntry("have run lengths that do not fit the image (expected start length ..., from 1)")]
        flat = np.zeros(pixels + 1, np.int32)
        np.add.at(flat, starts, 1)
        np.add.at(flat, starts + lengths, -1)
        covered = np.cumsum(flat[:-1]) > 0
        mask = covered.reshape(size) if self.order == "rows" else covered.reshape(size[::-1]).T
        if self.objects == "components":
            return [{"size": list(size), "counts": one.decode()} for one in _components(mask, self.min_area)]
        return [{"size": list(size), "counts": rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()}]

    def usable_split(self, name: str, issues: list[Issue]) -> CocoSplit:
        issues += self._order_issues()
        return super().usable_split(name, issues)

    def split(self, name: str) -> CocoSplit:
        if name == "train":  # only one of the two splits logs it
            for issue in self._order_issues():
                level = logging.WARNING if issue.level == "warning" else logging.INFO
                log.log(level, "%s: %s; %s", self.files.table, issue.problem, issue.advice)
        return super().split(name)

    def _order_issues(self) -> list[Issue]:
        """A note of the order, or a warning where the runs have the distances of the other one, or overlap."""
        # From a column to the next it is a height on, along the rows a width.
        fits, filled, overlapping = np.zeros(2, np.int64), 0, 0
        for row in self.rows[:CHECKED]:
            size = size_or_none(self.files.path(row.image))
            if (numbers := _runs(row.mask)) is not None and not len(numbers) % 2:
                starts, lengths = numbers.reshape(-1, 2)[np.argsort(numbers[::2])].T
                filled += 1
                overlapping += int((starts[:-1] + lengths[:-1] > starts[1:]).any())
                fits += count_steps(numbers[::2], size)
        other = "rows" if self.order == "columns" else "columns"
        here, table = f"{ORDERS[self.order]} (data.run_order={self.order})", str(self.files.table)
        down, along = fits.tolist()
        if are_of_other_order(down, along) if other == "rows" else are_of_other_order(along, down):
            problem = f"its run lengths are counted {here}, but their distances are those of pixels {ORDERS[other]}"
            advice = f"look at the pictures, and set data.run_order={other} if masks and images do not match"
            return [Issue(table, "", problem, advice, "warning", "data set")]
        if 2 * overlapping > filled:
            problem = f"the runs of {overlapping} of {filled} rows overlap, as where other numbers are written"
            advice = "look at the pictures; expected start length start length ..., each start from the first pixel on"
            return [Issue(table, "", problem, advice, "warning", "data set")]
        problem = f"its masks are run lengths: start length ..., from 1, counted {here}"
        return [Issue(table, "", problem, f"data.run_order={other} counts {ORDERS[other]}", "note", "data set")]


def _components(mask: NDArray[np.bool_], min_area: int) -> Sequence[bytes]:
    return compress_ids(label_components(mask, min_area)).counts
