"""A table of images and masks: a .csv or .tsv file."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam_ft.data.io.classes import ClassMap
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.coco_categories import similar_names
from sam_ft.data.sources.coco_split import CocoSplit
from sam_ft.data.sources.file_split import FileSplit
from sam_ft.data.sources.folder import SPLITS
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.pairing import SampleFiles, check_val_fraction, split_by_hash
from sam_ft.data.sources.run_length_table import ORDERS, RunLengthTable, holds_run_lengths
from sam_ft.data.sources.survey import Hint
from sam_ft.data.sources.table_files import TableFiles
from sam_ft.data.sources.table_rows import Columns, Row, check_rows, read_rows
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.files import expand_user
from sam_ft.utils.tiles import check_tile

log = logging.getLogger("sam_ft")


class Table:
    """Images and masks paired by a table: one row per mask, and all rows of an image are one sample.

    `split_column` holds "train" or "val"; without this column a seeded hash of each name splits the images, so new rows
    move no others. A sample's name is the stem of its image, or the whole path where several images have that stem.

    table: .tsv, or .csv with commas, semicolons or tabs, with a header line; paths in it are relative to its folder,
        see `TableFiles`, `~` is the home folder
    mask_column: files, or run lengths of an object each, see `RunLengthTable`
    split_column, label_column: the table may lack them, unless they have another name than the default; rows of the
        split test are not used
    label_column: class name of the objects in the row's mask; without it the masks hold the labels
    run_order: "columns" or "rows", in which the pixels of run lengths are counted
    classes: as in `Rules`; with a label column, the id of each label, by default 1, 2, ... in alphabetical order
    objects ... invert: see `Rules` · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        table: str | Path,
        image_column: str = "image",
        mask_column: str = "mask",
        split_column: str = "split",
        label_column: str = "label",
        run_order: str = "columns",
        objects: str = "whole",
        classes: Mapping[str, int | Sequence[int]] | None = None,
        components_per_class: bool = False,
        min_area: int = 16,
        ignore_index: int | Sequence[int | Sequence[int]] | None = None,
        background: int | Sequence[int | Sequence[int]] | None = None,
        other: str = "error",
        intensity: str = "percentile",
        page: int | None = None,
        projection: str | None = None,
        channels: Sequence[int] | None = None,
        on_bad: str = "stop",
        invert: bool = False,
        val_fraction: float = 0.2,
        seed: int = 0,
        tile: int | str | None = None,
    ) -> None:
        self.table = expand_user(table)
        check_tile("data.tile", tile)
        self.tile = tile
        self.val_fraction = val_fraction
        self.seed = seed
        check_val_fraction(val_fraction)
        self.content = read_rows(self.table, Columns(image_column, mask_column, split_column, label_column))
        self.rows = self.content.rows
        self.files = TableFiles(self.table)
        self.run_lengths = holds_run_lengths(self.rows)
        self.run_order = run_order
        if run_order not in ORDERS:
            raise ConfigError(f"data.run_order={run_order} is not known; expected one of {', '.join(ORDERS)}")
        self.label_ids: dict[str, int] = {}
        # All rows have a label or none has: the column is there or not.
        has_labels = self.rows[0].label is not None
        if has_labels and objects == "classes":
            raise ConfigError(
                f"{self.table}: has the column {label_column}, but data.objects=classes reads the classes from "
                "the masks; choose other objects, or remove the column"
            )
        if has_labels:
            # The classes then name labels of the table, and not values in the masks.
            self.label_ids, classes = _label_ids(self.rows, classes), None
        self.rules = Rules(
            objects=objects,
            classes=classes,
            components_per_class=components_per_class,
            min_area=min_area,
            ignore_index=ignore_index,
            background=background,
            other=other,
            intensity=intensity,
            page=page,
            projection=projection,
            channels=channels,
            on_bad=on_bad,
            invert=invert,
        )

    def split(self, name: str) -> FileSplit | CocoSplit:
        """The images of "train" or "val". Raises: DataError when there are none, or rows cannot be used."""
        for hint in self._hints() if name == "train" else ():  # only one of the two splits logs them
            level = logging.WARNING if hint.level == "warning" else logging.INFO
            log.log(level, "%s: %s", self.table, "; ".join(filter(None, hint[:2])))
        if self.run_lengths:
            return self._run_length_table(check_rows(self.files, self.rows, self.label_ids, None, False)).split(name)
        return self._split(name, check_rows(self.files, self.rows, self.label_ids))

    def usable_split(self, name: str, issues: list[Issue]) -> FileSplit | CocoSplit:
        """The same with the usable rows; `issues` receives the others."""
        issues += [Issue(str(self.table), "", *hint, kind="data set") for hint in self._hints()]
        rows = check_rows(self.files, self.rows, self.label_ids, issues, not self.run_lengths)
        return self._run_length_table(rows).usable_split(name, issues) if self.run_lengths else self._split(name, rows)

    def _run_length_table(self, rows: list[Row]) -> RunLengthTable:
        options = (self.rules, self.run_order, self.val_fraction, self.seed, self.tile)
        return RunLengthTable(self.files, rows, self.label_ids, *options)

    def _hints(self) -> list[Hint]:
        """What to look at: columns and rows that are not read, and masks of several images."""
        hints = [Hint(*self._unread_columns_hint(), "note")] if self.content.unread_columns else []
        if tested := self.content.tested:
            hints.append(Hint(f"{tested} rows are of the split test, and are left alone", "", "note"))
        if similar := similar_names(self.label_ids if not self.run_lengths else ()):  # `read_coco` warns of those
            problem = f"labels differ only in case or spaces: {', '.join(similar)}"
            hints.append(Hint(problem, "they are classes of their own; write them alike if they are one"))
        images = defaultdict(set)
        for row in self.rows if not self.run_lengths else ():
            images[row.mask].add(self.files.path(row.image))
        if shared := [mask for mask, own in images.items() if mask and len(own) > 1]:
            problem = f"{len(shared)} mask files are those of several images: {join_names(shared)}"
            hints.append(Hint(problem, "name the own mask of each image, unless they show the same"))
        return hints

    def _unread_columns_hint(self) -> tuple[str, str]:
        """Problem and advice about columns that are not read."""
        problem = f"columns that are not read: {', '.join(self.content.unread_columns)}"
        if self.rows[0].split is None:
            return problem, "names decide the split; if one of them holds train or val, set data.split_column to it"
        if self.rows[0].label is None:
            return problem, "if one of them holds class names of objects, set data.label_column to it"
        return problem, ""

    def _split(self, name: str, rows: list[Row]) -> FileSplit:
        if name not in SPLITS:
            raise ConfigError(f"the split {name} is not known; expected train or val")
        items = self._items(rows)
        if self.rows[0].split is None:
            where = (self.table, "add a column that holds train or val")
            chosen = split_by_hash(list(items), name, self.val_fraction, self.seed, where)
        elif not (chosen := [item for item, split in items.items() if split == name]):
            raise DataError(f"{self.table}: no row has the split {name}; expected some of train and some of val")
        classes = {label_id: label for label, label_id in self.label_ids.items()}
        return FileSplit(chosen, self.rules, classes or None)

    def _items(self, rows: list[Row]) -> dict[SampleFiles, str | None]:
        """{image with its masks: split}, in the order of the table."""
        # By path: rows of one image may be anywhere in the table.
        found: dict[Path, tuple[SampleFiles, str | None]] = {}
        for row in rows:
            path = self.files.path(row.image)
            item, _ = found.get(path, (SampleFiles(path.stem, path, ()), None))
            # One label for each mask, in the order of masks.
            labels = () if row.label is None else (*item.labels, self.label_ids[row.label])
            found[path] = replace(item, masks=(*item.masks, self.files.path(row.mask)), labels=labels), row.split
        stems = Counter(item.name for item, _ in found.values())
        return {
            item if stems[item.name] == 1 else replace(item, name=self._relative(path)): split
            for path, (item, split) in found.items()
        }

    def _relative(self, path: Path) -> str:
        folder = self.table.parent
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _label_ids(rows: list[Row], classes: Mapping[str, int | Sequence[int]] | None) -> dict[str, int]:
    """{label: id}."""
    if classes is None:
        return {label: label_id for label_id, label in enumerate(sorted({row.label for row in rows if row.label}), 1)}
    class_map = ClassMap.from_config(classes)
    if class_map.are_colors:
        raise ConfigError(f"data.classes has colors ({class_map}), but the table has labels; expected an id for each")
    return dict(zip(class_map.names, class_map.codes, strict=True))
