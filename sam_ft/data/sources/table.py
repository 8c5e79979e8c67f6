"""A table of images and masks: a .csv or .tsv file."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam_ft.data.io.classes import Classes
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.file_split import FileSplit
from sam_ft.data.sources.issues import Fault
from sam_ft.data.sources.pairing import Item, check_share, drawn
from sam_ft.data.sources.table_rows import SPLITS, Columns, Row, check_rows, path_of, read_rows
from sam_ft.utils.errors import ConfigError, DataError

log = logging.getLogger("sam_ft")


class Table:
    """Images and masks as a table pairs them: a row for each mask, and all rows of an image make one sample.

    The split is that of `split_column`, "train" or "val"; without such a column a share of the images is drawn by a
    seeded hash of each name, so that adding rows moves no other one. A sample's name is the stem of its image, or its
    whole path where that stem is there twice.

    table: .tsv, or .csv with commas, semicolons or tabs, in UTF-8, with a header line; paths in it are relative to its
        folder, `~` is the home folder
    split_column, label_column: may be absent from the table, unless they are given another name than by default
    label_column: what the objects of the row's mask are; without it, labels are what the masks say
    classes: as in `Rules`; with a label column, the number of each label, by default 1, 2, ... in alphabetical order
    objects ... on_bad: see `Rules`
    """

    def __init__(
        self,
        table: str | Path,
        image_column: str = "image",
        mask_column: str = "mask",
        split_column: str = "split",
        label_column: str = "label",
        objects: str = "whole",
        classes: Mapping[str, int | Sequence[int]] | None = None,
        components_per_class: bool = False,
        min_area: int = 16,
        ignore_index: int | Sequence[int] | None = None,
        intensity: str = "percentile",
        page: int | None = None,
        on_bad: str = "stop",
        val_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.table = Path(table).expanduser()
        self.val_fraction = val_fraction
        self.seed = seed
        check_share(val_fraction)
        columns = Columns(image_column, mask_column, split_column, label_column)
        self.rows, self.unread = read_rows(self.table, columns)
        self.numbers: dict[str, int] = {}  # of the labels
        labelled = self.rows[0].label is not None
        if labelled and objects == "classes":
            raise ConfigError(
                f"{self.table}: has the column {label_column}, but data.objects=classes finds the classes in the "
                "masks; choose other objects, or leave the column out"
            )
        if labelled:
            self.numbers, classes = _numbers(self.rows, classes), None
        self.rules = Rules(objects, classes, components_per_class, min_area, ignore_index, intensity, page, on_bad)

    def split(self, name: str) -> FileSplit:
        """The images of "train" or "val". Raises: DataError when there are none, or rows cannot be used."""
        if self.unread and name == "train":  # once
            log.info("%s: %s", self.table, "; ".join(filter(None, self._about_unread())))
        return self._split(name, check_rows(self.table, self.rows, self.numbers))

    def sound_split(self, name: str, faults: list[Fault]) -> FileSplit:
        """The same of the rows that can be used; `faults` takes the others."""
        if self.unread:
            faults.append(Fault(str(self.table), "", *self._about_unread(), level="note", kind="data set"))
        return self._split(name, check_rows(self.table, self.rows, self.numbers, faults))

    def _about_unread(self) -> tuple[str, str]:
        """Which columns are not read, and what that may mean."""
        what = f"columns that are not read: {', '.join(self.unread)}"
        if self.rows[0].split is None:
            return what, "the split is drawn by name; if one of them says train or val, set data.split_column to it"
        if self.rows[0].label is None:
            return what, "if one of them says what the objects are, set data.label_column to it"
        return what, ""

    def _split(self, name: str, rows: list[Row]) -> FileSplit:
        if name not in SPLITS:
            raise ConfigError(f"the split {name} is not known; expected train or val")
        items = self._items(rows)
        if self.rows[0].split is None:
            where = (self.table, "add a column that says train or val")
            chosen = drawn(list(items), name, self.val_fraction, self.seed, where)
        elif not (chosen := [item for item, split in items.items() if split == name]):
            raise DataError(f"{self.table}: no row has the split {name}; expected some of train and some of val")
        classes = {number: label for label, number in self.numbers.items()}
        return FileSplit(chosen, self.rules, classes or None)

    def _items(self, rows: list[Row]) -> dict[Item, str | None]:
        """Every image with its masks, and its split, in the order of the table."""
        found: dict[Path, tuple[Item, str | None]] = {}
        for row in rows:
            path = path_of(self.table, row.image)
            item, _ = found.get(path, (Item(path.stem, path, ()), None))
            labels = () if row.label is None else (*item.labels, self.numbers[row.label])
            found[path] = replace(item, masks=(*item.masks, path_of(self.table, row.mask)), labels=labels), row.split
        stems = Counter(item.name for item, _ in found.values())
        return {
            item if stems[item.name] == 1 else replace(item, name=self._relative(path)): split
            for path, (item, split) in found.items()
        }

    def _relative(self, path: Path) -> str:
        folder = self.table.parent
        return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _numbers(rows: list[Row], classes: Mapping[str, int | Sequence[int]] | None) -> dict[str, int]:
    """The number of each label."""
    if classes is None:
        return {label: number for number, label in enumerate(sorted({row.label for row in rows if row.label}), 1)}
    table = Classes.of(classes)
    if table.are_colors:
        raise ConfigError(f"data.classes has colors ({table}), but the table names labels; expected a number for each")
    return dict(zip(table.names, table.codes, strict=True))
