"""Loads a COCO instance JSON and checks its categories, images and annotations.

pycocotools' COCO class is not used: it prints, keeps each number of the file as a Python object, and stops at the first
missing key.
"""

import json
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sam_ft.data.sources.coco_issues import InvalidEntry, Problems, add_invalid
from sam_ft.data.sources.names import is_utf8, join_names, printable
from sam_ft.types import Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError

MAX_SIDE = 65_535  # pixels: pycocotools counts an image's pixels in 32 bits
OTHER_FORMATS = {  # a key of another format: its name, and a remedy
    "shapes": "LabelMe, one file an image; convert them to one COCO file",
    "segments_info": "COCO panoptic segmentation; use the instances file",
    "caption": "COCO captions; use the instances file",
    "_via_img_metadata": "VGG Image Annotator; export it as COCO",
}
EXPECTED = "but no COCO instance annotations; expected the keys images, annotations and categories, each a list"


def load_json(file: Path) -> dict[str, list]:
    """The content, with lists of images, annotations and categories; info and licenses may be missing.

    Raises: DataError when it cannot be read, is damaged, or is of another format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}: is damaged at line {error.lineno}, column {error.colno} ({error.msg}); expected JSON. "
            "Check that the file is complete, or export it again"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: cannot be read ({error}); expected COCO instance annotations in JSON. Name your files with "
            "data.train and data.val"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: holds a {type(content).__name__} {EXPECTED}")
    lists = [key for key in ("images", "annotations", "categories") if isinstance(content.get(key), list)]
    # Other formats show in their top keys, or in those of an annotation.
    first = content["annotations"][:1] if "annotations" in lists else []
    keys = {*content, *(key for entry in first if isinstance(entry, dict) for key in entry)}
    other = [f". This looks like {name}" for key, name in OTHER_FORMATS.items() if key in keys]
    if len(lists) < 3 or other:
        names = join_names(sorted(content)) or "(none)"
        raise DataError(f"{file}: has the keys {names} {EXPECTED}{''.join(other[:1])}")
    return content


def read_categories(file: Path, entries: list) -> dict[int, str]:
    """{id: name}; ids may have gaps. Raises: DataError about the first invalid or repeated category."""
    known: dict[int, str] = {}
    for entry in entries:
        valid = isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)
        if not valid or entry["id"] in known or not 0 <= entry["id"] < 2**31:
            raise DataError(f"{file}: has the category {entry}; expected a unique integer id and a name for each")
        known[entry["id"]] = entry["name"]
    return known


def select_categories(file: Path, known: dict[int, str], names: Sequence[str] | None) -> dict[int, str]:
    """{id: name} of the categories in `names`, or of all. Raises: DataError about names that the file lacks."""
    if names is None:
        return known
    if unknown := [str(name) for name in names if name not in known.values()]:
        raise DataError(
            f"{file}: has no category {join_names(unknown)}; it has {', '.join(known.values()) or 'none'}. Correct "
            "data.categories"
        )
    return {key: name for key, name in known.items() if name in names}


def check_images(entries: list, problems: Problems) -> dict[Hashable, tuple[str, Size]]:
    """{id: (file name, size)} of the valid entries; an id or a file name used twice makes each of its entries invalid.

    problems: receives the invalid entries
    """
    ids = Counter(entry["id"] for entry in entries if present(entry, "id"))
    files = Counter(entry["file_name"] for entry in entries if present(entry, "file_name"))
    valid: dict[Hashable, tuple[str, Size]] = {}
    for position, entry in enumerate(entries):
        name = str(entry["file_name"]) if present(entry, "file_name") else f"images[{position}]"
        try:
            if not present(entry, "id") or not present(entry, "file_name") or not isinstance(entry["file_name"], str):
                raise InvalidEntry("have no id or no file_name")
            # The size is needed before the image is read, to rasterize its polygons.
            if not all(_is_side(entry.get(side)) for side in ("height", "width")):
                raise InvalidEntry("have no height and width in whole pixels")
            if ids[entry["id"]] > 1:
                raise InvalidEntry("share their id with another image", entry["id"])
            if files[name] > 1:
                raise InvalidEntry("share their file_name with another image", f"id {entry['id']}")
            if not is_utf8(name):  # names become seeds, lines of a log and cells of a table
                raise InvalidEntry("have a file_name that is not valid UTF-8")
            valid[entry["id"]] = (name, (int(entry["height"]), int(entry["width"])))
        except InvalidEntry as error:
            add_invalid(problems, "images", printable(name), error)
    return valid


def has_file(folder: Path, name: str, problems: Problems) -> bool:
    """Whether the image file is below `folder`; `problems` receives it otherwise."""
    if Path(name).is_absolute() or ".." in Path(name).parts:  # a downloaded JSON must not name other files
        problems["images", f"have a file_name that leads out of {folder}"].append(name)
        return False
    exists = os.path.isfile(folder / name)  # Path.is_file raises on a name that is too long
    if not exists:
        problems["images", f"have no file in {folder}"].append(name)
    return exists


def unique_annotations(entries: list, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and entry of each annotation; entries that share an id are left out.

    problems: receives these
    """
    ids = Counter(entry["id"] for entry in entries if present(entry, "id"))
    # None: tqdm hides itself where the output is no terminal.
    hidden = None if distributed.is_main() else True
    for position, entry in enumerate(tqdm(entries, "reading annotations", leave=False, disable=hidden)):
        name = str(entry["id"]) if present(entry, "id") else f"annotations[{position}]"
        if not isinstance(entry, dict):
            problems["annotations", "are no objects of JSON {...}"].append(name)
        elif present(entry, "id") and ids[entry["id"]] > 1:
            problems["annotations", "share their id with another annotation"].append(name)
        else:
            yield name, entry


def known_id(entry: dict[str, Any], key: str, known: Mapping | set) -> Any:
    """The id that an annotation has under `key`. Raises: InvalidEntry when it is missing or not in `known`."""
    if not present(entry, key) or entry[key] not in known:
        raise InvalidEntry(f"have an unknown {key} (expected the id of one in the file)", entry.get(key))
    return entry[key]


def present(entry: Any, key: str) -> bool:
    """Whether an entry is an object of JSON with a hashable value under `key`."""
    return isinstance(entry, dict) and entry.get(key) is not None and isinstance(entry[key], Hashable)


def _is_side(value: Any) -> bool:
    return isinstance(value, int | float) and 1 <= value <= MAX_SIDE and value == int(value)
