"""Reads a file of prompts for many images: a table (.csv, .tsv), or COCO annotations (.json)."""

import csv
import io
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from sam_ft.data.sources.coco_categories import read_categories
from sam_ft.data.sources.coco_json import load_json
from sam_ft.data.sources.delimited_text import skip_preamble
from sam_ft.types import OBJECT
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

BOX, POINT = ("x0", "y0", "x1", "y1"), ("x", "y")
COLUMNS_HELP = (
    "expected the columns file, and x0,y0,x1,y1 for boxes or x,y for points; point_label, object and class may follow"
)


@dataclass
class ObjectPrompt:
    """The prompts of one object in pixels of its image: a box x0, y0, x1, y1, points x, y, label, or both."""

    label: int
    box: tuple[float, ...] | None = None
    points: list[tuple[float, float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class PromptFile:
    """Prompts by file name, in the order of the file · classes: {label: name}"""

    path: Path
    objects: dict[str, list[ObjectPrompt]]
    classes: dict[int, str]

    def find(self, file: str) -> str | None:
        """The name under which the file has prompts for an image: its path below the images, or its own name.

        file: path below the folder of images
        """
        return next((name for name in (file, PurePosixPath(file).name) if name in self.objects), None)


def read_prompts(path: Path) -> PromptFile:
    """Reads boxes and points.

    A row of a table is a box, a point, or both; rows of a file with the same value in the column "object" are prompts
    of one object. "point_label" is 1 on the object (the default), or 0 beside it. Of COCO annotations the boxes are
    read, and the visible keypoints of those without a box.

    Raises: DataError that names the line or the annotation, or where all coordinates are from 0 to 1.
    """
    if path.suffix.lower() == ".json":
        found = _read_coco(path)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        found = _read_table(path)
    else:
        raise DataError(f"prompts={path}: is not known by its suffix; expected a table (.csv, .tsv) or COCO (.json)")
    values = [value for own in found.objects.values() for one in own for value in _coordinates(one)]
    if all(0 <= value <= 1 for value in values):
        raise DataError(
            f"prompts={path}: all coordinates are from 0 to 1; expected pixels, so multiply x by the width and y by "
            "the height"
        )
    return found


def _coordinates(prompt: ObjectPrompt) -> list[float]:
    return [*(prompt.box or ()), *(value for x, y, _ in prompt.points for value in (x, y))]


def _read_table(path: Path) -> PromptFile:
    try:
        text = read_text(path)
    except OSError as error:
        raise DataError(f"prompts={path}: cannot be read ({error}); expected a table") from None
    text, skipped, given = skip_preamble(text)
    delimiter = given or max("\t;,", key=text.partition("\n")[0].count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = [str(name).strip() for name in rows.fieldnames or []]
    rows.fieldnames = header
    if "file" not in header or not ({*BOX} <= {*header} or {*POINT} <= {*header}):
        raise DataError(f"prompts={path}: has the columns {', '.join(header) or '(none)'}; {COLUMNS_HELP}")
    names = sorted({str(row.get("class") or "").strip() for row in rows} - {""})
    classes = dict(enumerate(names, 1)) or dict(OBJECT)
    labels = {name: label for label, name in classes.items()}
    # A second pass over the rows, now that the classes have their numbers.
    rows = csv.DictReader(io.StringIO(text, newline=""), fieldnames=header, delimiter=delimiter)
    next(rows)
    objects: dict[str, list[ObjectPrompt]] = defaultdict(list)
    known: dict[tuple[str, str], ObjectPrompt] = {}
    for cells in rows:
        row = {key: (value or "").strip() for key, value in cells.items() if isinstance(value, str) and key}
        if not any(row.values()):
            continue
        where = f"prompts={path}, line {skipped + rows.line_num}"
        file = PurePosixPath(row.get("file", "").replace("\\", "/")).as_posix()
        if not row.get("file"):
            raise DataError(f"{where}: the file is empty; name an image")
        name = row.get("class", "")
        if names and not name:
            raise DataError(f"{where}: the class is empty, but other rows have one")
        key = (file, row.get("object", ""))
        prompt = known.get(key) if key[1] else None
        if prompt is None:
            prompt = known[key] = ObjectPrompt(labels.get(name, 1))
            objects[file].append(prompt)
        elif prompt.label != labels.get(name, 1):
            raise DataError(f"{where}: object {key[1]} has the class {name} here and another one above")
        _add_row(prompt, row, where)
    if not objects:
        raise DataError(f"prompts={path}: has no rows; expected one for each box or point")
    return PromptFile(path, dict(objects), classes)


def _add_row(prompt: ObjectPrompt, row: dict[str, str], where: str) -> None:
    box, point = ([row.get(name, "") for name in names] for names in (BOX, POINT))
    if not any(box) and not any(point):
        raise DataError(f"{where}: has neither a box nor a point; fill {','.join(BOX)} or {','.join(POINT)}")
    if any(box):
        if prompt.box is not None:
            raise DataError(f"{where}: object {row['object']} has a second box; expected one for each object")
        prompt.box = _check_box(tuple(_number(cell, where) for cell in box), where)
    if any(point):
        x, y = (_number(cell, where) for cell in point)
        if (label := row.get("point_label") or "1") not in ("0", "1"):
            raise DataError(f"{where}: point_label is {label}; expected 1 on the object or 0 beside it")
        prompt.points.append((x, y, int(label)))


def _read_coco(path: Path) -> PromptFile:
    if not path.is_file():
        raise DataError(f"prompts={path}: there is no such file")
    content = load_json(path)
    classes = read_categories(path, content["categories"]) or dict(OBJECT)
    files = {image.get("id"): image.get("file_name") for image in content["images"] if isinstance(image, dict)}
    objects: dict[str, list[ObjectPrompt]] = defaultdict(list)
    for position, entry in enumerate(content["annotations"]):
        where = f"prompts={path}, annotations[{position}]"
        file = files.get(entry.get("image_id")) if isinstance(entry, dict) else None
        if not isinstance(file, str):
            raise DataError(f"{where}: has an unknown image_id; expected the id of one of the images")
        label = entry.get("category_id") if content["categories"] else 1
        if label not in classes:
            raise DataError(f"{where}: has the unknown category_id {label}")
        prompt = ObjectPrompt(label)
        box, keypoints = entry.get("bbox"), entry.get("keypoints")
        if box:
            x, y, width, height = _numbers(box, 4, where)
            prompt.box = _check_box((x, y, x + width, y + height), where)
        elif keypoints:
            numbers = _numbers(keypoints, len(keypoints) // 3 * 3, where)
            triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
            prompt.points = [(x, y, 1) for x, y, visible in triples if visible]
        if prompt.box is None and not prompt.points:
            raise DataError(f"{where}: has neither a bbox nor visible keypoints")
        objects[PurePosixPath(file).as_posix()].append(prompt)
    if not objects:
        raise DataError(f"prompts={path}: has no annotations; expected one for each object")
    return PromptFile(path, dict(objects), classes)


def _numbers(values: Any, count: int, where: str) -> list[float]:
    numbers = values if isinstance(values, list) else []
    if len(numbers) != count or not all(type(one) in (int, float) and math.isfinite(one) for one in numbers):
        raise DataError(f"{where}: has {values}; expected {count} numbers")
    return [float(one) for one in numbers]


def _number(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else _refuse_number(cell, where)


def _refuse_number(cell: str, where: str) -> NoReturn:
    raise DataError(f"{where}: {cell or 'an empty cell'} stands where a number in pixels is expected")


def _check_box(box: tuple[float, ...], where: str) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise DataError(f"{where}: the box is {x0:g}, {y0:g}, {x1:g}, {y1:g}; expected x0 < x1 and y0 < y1")
    return box
