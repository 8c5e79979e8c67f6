"""Reads a .csv or .tsv file that pairs images with masks, and lists all that is wrong with its rows."""

import csv
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sam_ft.data.sources.issues import SHOWN, Fault
from sam_ft.utils.errors import DataError

SPLITS = ("train", "val")
OPTIONAL = ("split", "label")  # columns that may be absent, unless the settings give them another name


@dataclass(frozen=True)
class Columns:
    """The names of the columns."""

    image: str
    mask: str
    split: str
    label: str


@dataclass(frozen=True)
class Row:
    """A line of the table: cells as they are there, split and label None where there is no such column."""

    line: int
    image: str
    mask: str
    split: str | None
    label: str | None


def read_rows(table: Path, columns: Columns) -> tuple[list[Row], list[str]]:
    """The rows of a table, and the names of the columns that are not read; of the cells nothing was checked.

    Raises: DataError when it is no table, has not these columns or nearly these, or has no rows.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); set data.table to a .csv or .tsv file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: is not UTF-8 ({error}); save it as CSV UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(table, text, columns.image))
    rows = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(table, header, columns)
        for cells in reader:
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            if any(row.values()):  # else an empty line
                split, label = (row.get(c, "") if c in header else None for c in (columns.split, columns.label))
                image, mask = row.get(columns.image, ""), row.get(columns.mask, "")
                rows.append(Row(reader.line_num, image, mask, split, label))
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: is no table ({error})") from None
    if not rows:
        raise DataError(f"{table}: has no rows; expected one for each mask")
    return rows, _unread(header, columns)


def path_of(table: Path, cell: str) -> Path:
    """The file that a cell names, in one spelling."""
    return Path(os.path.normpath(table.parent / Path(cell).expanduser()))


def check_rows(table: Path, rows: list[Row], labels: Collection[str], found: list[Fault] | None = None) -> list[Row]:
    """The rows that can be used.

    labels: that are known · found: takes what is wrong with the others; without it that is an error
    Raises: DataError that lists all that is wrong, by line.
    """
    faults: list[Fault] = []

    def refuse(row: Row, what: str, advice: str = "") -> None:
        faults.append(Fault(str(table), str(row.line), what, advice, kind="line"))

    seen: dict[tuple, int] = {}
    split_of: dict[Path, Row] = {}
    for row in rows:
        for what, cell in (("image", row.image), ("mask", row.mask)):
            if not cell:
                refuse(row, f"the {what} is empty", "name a file, or take the line out")
            elif not path_of(table, cell).is_file():
                refuse(row, f"the {what} {cell} is not there", f"{what} paths are relative to the table's folder")
        if row.split is not None and row.split not in SPLITS:
            refuse(row, f"the split is {row.split or 'empty'}; expected train or val")
        if row.label is not None and row.label not in labels:
            known = f"; data.classes has {', '.join(labels)}" if row.label else ""
            refuse(row, f"the label is {row.label or 'empty'}{known}")
        image, mask = path_of(table, row.image), path_of(table, row.mask)
        first = seen.setdefault((image, mask), row.line)
        if first != row.line and row.image and row.mask:
            refuse(row, f"has the image and the mask of line {first}", "take one of them out")
        other = split_of.setdefault(image, row)
        if row.image and row.split != other.split:
            refuse(
                row,
                f"{row.image} is of {row.split or 'no split'} here, and of {other.split or 'no split'} in line "
                f"{other.line}",
                "all lines of an image are of one split",
            )
    if found is not None:
        found += faults
        bad = {fault.name for fault in faults}
        return [row for row in rows if str(row.line) not in bad]
    if faults:
        lines = [f"line {fault.name}: {fault.what}" for fault in faults[:SHOWN]]
        more = f"\n... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{table}: {len(faults)} faults\n" + "\n".join(lines) + more)
    return rows


def _delimiter(table: Path, text: str, image_column: str) -> str:
    """Tabs in a .tsv; else the one that makes the header line hold the image column, or nearly it."""
    if table.suffix.lower() == ".tsv":
        return "\t"
    lines = text.splitlines()[:1]
    wanted = _plain(image_column)
    found = [d for d in ",;\t" if any(wanted in map(_plain, row) for row in csv.reader(lines, delimiter=d))]
    return found[0] if found else ","


def _check_header(table: Path, header: list[str], columns: Columns) -> None:
    named = [columns.image, columns.mask, columns.split, columns.label]
    for name in _unread(header, columns):  # a split that is not read would be drawn, and look as if it were
        for role, wanted in vars(columns).items():
            if wanted not in header and _plain(name) == _plain(wanted):
                raise DataError(
                    f"{table}: has the column {name!r}, and none that is named {wanted!r}; rename it, or name it with "
                    f"'data.{role}_column=\"{name}\"'"
                )
    if missing := [name for name in named if name not in header and name not in OPTIONAL]:
        raise DataError(
            f"{table}: has no column {' and no column '.join(missing)}; its columns are {', '.join(header) or 'none'}. "
            "Name yours with data.image_column, data.mask_column, data.split_column and data.label_column"
        )
    if twice := [name for name in named if header.count(name) > 1]:
        raise DataError(f"{table}: has the column {twice[0]} more than once; rename one of them")


def _unread(header: list[str], columns: Columns) -> list[str]:
    return [name for name in header if name and name not in vars(columns).values()]


def _plain(name: str) -> str:
    """Without case and spaces."""
    return "".join(name.split()).casefold()
