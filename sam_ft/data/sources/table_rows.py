"""Reads a .csv or .tsv file that pairs images with masks, and checks its rows."""

import csv
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.names import MAX_LISTED
from sam_ft.utils.errors import DataError

SPLITS = ("train", "val")
OPTIONAL_COLUMNS = ("split", "label")  # columns that may be missing, unless they have another name than the default


@dataclass(frozen=True)
class Columns:
    """The names of the columns."""

    image: str
    mask: str
    split: str
    label: str


@dataclass(frozen=True)
class Row:
    """A line of the table with its cells; split and label are None without such a column."""

    line: int
    image: str
    mask: str
    split: str | None
    label: str | None


def read_rows(table: Path, columns: Columns) -> tuple[list[Row], list[str]]:
    """The rows of a table, with unchecked cells, and the names of the columns that are not read.

    Raises: DataError when it is no table, lacks a column or spells it differently, or has no rows.
    """
    try:
        # utf-8-sig: spreadsheet programs put a byte-order mark before the header.
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
            if any(row.values()):  # skip empty lines
                split, label = (row.get(c, "") if c in header else None for c in (columns.split, columns.label))
                image, mask = row.get(columns.image, ""), row.get(columns.mask, "")
                rows.append(Row(reader.line_num, image, mask, split, label))
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: is no table ({error})") from None
    if not rows:
        raise DataError(f"{table}: has no rows; expected one per mask")
    return rows, _unread_columns(header, columns)


def path_of(table: Path, cell: str) -> Path:
    """The normalized path that a cell holds."""
    return Path(os.path.normpath(table.parent / Path(cell).expanduser()))


def check_rows(table: Path, rows: list[Row], labels: Collection[str], issues: list[Issue] | None = None) -> list[Row]:
    """The usable rows.

    labels: the known ones · issues: receives those of the other rows; without it they raise
    Raises: DataError that lists all issues by line.
    """
    found: list[Issue] = []

    def add_issue(row: Row, problem: str, advice: str = "") -> None:
        found.append(Issue(str(table), str(row.line), problem, advice, kind="line"))

    seen: dict[tuple, int] = {}
    split_of: dict[Path, Row] = {}
    for row in rows:
        for role, cell in (("image", row.image), ("mask", row.mask)):
            if not cell:
                add_issue(row, f"the {role} is empty", "name a file, or remove the line")
            elif not path_of(table, cell).is_file():
                add_issue(row, f"the {role} {cell} does not exist", f"{role} paths are relative to the table's folder")
        if row.split is not None and row.split not in SPLITS:
            add_issue(row, f"the split is {row.split or 'empty'}; expected train or val")
        if row.label is not None and row.label not in labels:
            known = f"; data.classes has {', '.join(labels)}" if row.label else ""
            add_issue(row, f"the label is {row.label or 'empty'}{known}")
        image, mask = path_of(table, row.image), path_of(table, row.mask)
        # The same pair twice would give an object twice.
        first = seen.setdefault((image, mask), row.line)
        if first != row.line and row.image and row.mask:
            add_issue(row, f"has the image and the mask of line {first}", "remove one of them")
        # An image in both splits would be trained on and scored.
        other = split_of.setdefault(image, row)
        if row.image and row.split != other.split:
            add_issue(
                row,
                f"{row.image} is in {row.split or 'no split'} here, and in {other.split or 'no split'} in line "
                f"{other.line}",
                "all lines of an image must have the same split",
            )
    if issues is not None:
        issues += found
        bad = {issue.name for issue in found}
        return [row for row in rows if str(row.line) not in bad]
    if found:
        lines = [f"line {issue.name}: {issue.problem}" for issue in found[:MAX_LISTED]]
        more = f"\n... and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        raise DataError(f"{table}: {len(found)} issues\n" + "\n".join(lines) + more)
    return rows


def _delimiter(table: Path, text: str, image_column: str) -> str:
    """A tab in a .tsv; otherwise the delimiter that gives the header the image column, whatever its case and spaces."""
    if table.suffix.lower() == ".tsv":
        return "\t"
    lines = text.splitlines()[:1]
    wanted = _normalize(image_column)
    found = [d for d in ",;\t" if any(wanted in map(_normalize, row) for row in csv.reader(lines, delimiter=d))]
    return found[0] if found else ","


def _check_header(table: Path, header: list[str], columns: Columns) -> None:
    expected = [columns.image, columns.mask, columns.split, columns.label]
    for name in _unread_columns(header, columns):  # a misspelled split column would silently give a split by hash
        for role, wanted in vars(columns).items():
            if wanted not in header and _normalize(name) == _normalize(wanted):
                raise DataError(
                    f"{table}: has the column {name!r} but no column {wanted!r}; rename it, or set "
                    f"'data.{role}_column=\"{name}\"'"
                )
    if missing := [name for name in expected if name not in header and name not in OPTIONAL_COLUMNS]:
        raise DataError(
            f"{table}: has no column {' and no column '.join(missing)}; its columns are {', '.join(header) or 'none'}. "
            "Name yours with data.image_column, data.mask_column, data.split_column and data.label_column"
        )
    if twice := [name for name in expected if header.count(name) > 1]:
        raise DataError(f"{table}: has the column {twice[0]} more than once; rename one of them")


def _unread_columns(header: list[str], columns: Columns) -> list[str]:
    return [name for name in header if name and name not in vars(columns).values()]


def _normalize(name: str) -> str:
    """The name without case and spaces."""
    return "".join(name.split()).casefold()
