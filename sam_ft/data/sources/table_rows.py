"""Reads a .csv or .tsv file that pairs images with masks, and checks its rows."""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sam_ft.data.sources.delimited_text import skip_preamble
from sam_ft.data.sources.folder import SPLITS
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.layout import SUFFIXES
from sam_ft.data.sources.locate import is_file
from sam_ft.data.sources.names import MAX_LISTED
from sam_ft.data.sources.table_files import TableFiles
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

MAX_SHOWN = 100  # characters of a cell in a message
TEST = "test"  # the split whose rows are left alone
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
    """A line of the table with its cells; split and label are None without such a column.

    split: "train" and "val" also where it has another of their names; other cells as they are
    """

    line: int
    image: str
    mask: str
    split: str | None
    label: str | None


@dataclass(frozen=True)
class TableRows:
    """rows: with unchecked cells, without those of test · unread_columns: names · tested: number of rows of test"""

    rows: list[Row]
    unread_columns: list[str]
    tested: int


def read_rows(table: Path, columns: Columns) -> TableRows:
    """The rows of a table.

    Raises: DataError when it is no table, lacks a column or spells it differently, or has no rows.
    """
    try:
        text = read_text(table)
        _refuse_spreadsheet(table)
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); set data.table to a .csv or .tsv file") from None
    text, skipped, given = skip_preamble(text)
    delimiter = _delimiter(table, text.splitlines()[:1], columns.image, given)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(table, header, columns)
        for cells in reader:
            row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
            if any(row.values()):  # skip empty lines
                split, label = (row.get(c, "") if c in header else None for c in (columns.split, columns.label))
                image, mask = row.get(columns.image, ""), row.get(columns.mask, "")
                split = None if split is None else _split_of(split)
                rows.append(Row(skipped + reader.line_num, image, mask, split, label))
    except csv.Error as error:
        raise DataError(f"{table}, line {skipped + reader.line_num}: is no table ({error})") from None
    if not rows:
        raise DataError(f"{table}: has no rows; expected one per mask")
    used = [row for row in rows if row.split != TEST]
    if not used:
        raise DataError(f"{table}: all of its {len(rows)} rows are of the split {TEST}; expected some of train and val")
    return TableRows(used, _unread_columns(header, columns), len(rows) - len(used))


def _refuse_spreadsheet(table: Path) -> None:
    """Raises: DataError for a file of Excel or LibreOffice, which is a ZIP archive or an OLE file."""
    with open(table, "rb") as file:
        if file.read(4) in (b"PK\3\4", b"\xd0\xcf\x11\xe0"):
            raise DataError(
                f"{table}: is a spreadsheet or an archive; save it as a .csv file, and set data.table to it"
            )


def _split_of(cell: str) -> str:
    """train, val or test by its usual names; other cells as they are."""
    names = {**SPLITS, TEST: ("test", "testing")}
    return next((split for split, known in names.items() if cell.lower() in known), cell)


def check_rows(
    files: TableFiles,
    rows: list[Row],
    labels: Collection[str],
    issues: list[Issue] | None = None,
    mask_files: bool = True,
) -> list[Row]:
    """The usable rows.

    labels: the known ones · issues: receives those of the other rows; without it they raise
    mask_files: whether the masks are files, and not run lengths
    Raises: DataError that lists all issues by line.
    """
    table = files.table
    found: list[Issue] = []

    def add_issue(row: Row, problem: str, advice: str = "") -> None:
        found.append(Issue(str(table), str(row.line), problem, advice, kind="line"))

    seen: dict[tuple, int] = {}
    split_of: dict[Path, Row] = {}
    for row in rows:
        for role, cell in (("image", row.image), ("mask", row.mask))[: 2 if mask_files else 1]:
            if not cell:
                add_issue(row, f"the {role} is empty", "name a file, or remove the line")
            elif not is_file(files.path(cell)):
                several = ", ".join(files.namesakes(cell))
                problem = f"is a name of several files: {several}" if several else "does not exist"
                advice = f"{role} paths are relative to the table's folder"
                add_issue(row, f"the {role} {_shown(cell)} {problem}", advice)
        if row.split is not None and row.split not in SPLITS:
            add_issue(row, f"the split is {row.split or 'empty'}; expected train, val or test")
        if row.label is not None and row.label not in labels:
            known = f"; data.classes has {', '.join(labels)}" if row.label else ""
            add_issue(row, f"the label is {row.label or 'empty'}{known}")
        image = files.path(row.image)
        if mask_files:
            mask = files.path(row.mask)
            # The same pair twice would give an object twice.
            first = seen.setdefault((image, mask), row.line)
            if first != row.line and row.image and row.mask:
                add_issue(row, f"has the image and the mask of line {first}", "remove one of them")
            elif image == mask and row.image:
                add_issue(row, f"has {row.image} as image and as mask", "name the file of the mask")
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


def _shown(cell: str) -> str:
    return cell if len(cell) <= MAX_SHOWN else f"{cell[:MAX_SHOWN]}..."


def _delimiter(table: Path, header: list[str], image_column: str, given: str | None) -> str:
    """A tab in a .tsv; otherwise the delimiter that gives the header the image column, whatever its case and spaces.

    header: the line of it, if there is one · given: the delimiter that the file names, which comes first
    """
    if given is None and table.suffix.lower() == ".tsv":
        return "\t"
    wanted, known = _normalize(image_column), [given or ",", *",;\t|"]
    found = [d for d in known if any(wanted in map(_normalize, row) for row in csv.reader(header, delimiter=d))]
    return found[0] if found else known[0]


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
        remedy = "Name yours with data.image_column, data.mask_column, data.split_column and data.label_column"
        if any(name.lower().endswith(SUFFIXES) for name in header):
            remedy = f"These are files: the table has no header; add a first line as {columns.image},{columns.mask}"
        raise DataError(
            f"{table}: has no column {' and no column '.join(missing)}; its columns are {', '.join(header) or 'none'}. "
            f"{remedy}"
        )
    if twice := [name for name in expected if header.count(name) > 1]:
        raise DataError(f"{table}: has the column {twice[0]} more than once; rename one of them")


def _unread_columns(header: list[str], columns: Columns) -> list[str]:
    return [name for name in header if name and name not in vars(columns).values()]


def _normalize(name: str) -> str:
    """The name without case and spaces."""
    return "".join(name.split()).casefold()
