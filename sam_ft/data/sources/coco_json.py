"""Loads a COCO instance JSON and checks its images and annotations; `coco_categories` checks the categories.

pycocotools' COCO class is not used: it prints, keeps each number of the file as a Python object, and stops at the first
missing key.
"""

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from tqdm import tqdm

from sam_ft.data.io.images import read_size
from sam_ft.data.sources.coco_issues import InvalidEntry, Problems, add_invalid
from sam_ft.data.sources.locate import locate, tails
from sam_ft.data.sources.names import is_utf8, join_names, printable
from sam_ft.types import Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

MAX_SIDE = 65_535  # pixels: pycocotools counts an image's pixels in 32 bits
OTHER_FORMATS = {  # a key of another format: its name, and a remedy
    "shapes": "LabelMe, one file an image; set data=labelme",
    "image": "SA-1B, one file an image; set data.train to their folder",
    "segments_info": "COCO panoptic segmentation; use the instances file",
    "caption": "COCO captions; use the instances file",
    "_via_img_metadata": "VGG Image Annotator; export it as COCO",
}
EMBEDDED = "are only the imageData of their JSON, without an image file beside it"  # of LabelMe
EXPECTED = "but no COCO instance annotations; expected the keys images, annotations and categories, each a list"


def load_json(file: Path) -> dict[str, list]:
    """The content, with lists of images, annotations and categories; categories, info and licenses may be missing.

    Raises: DataError when it cannot be read, is damaged, or is of another format.
    """
    try:
        content = json.loads(read_text(file))
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
        raise DataError(
            f"{file}: holds a {type(content).__name__} {EXPECTED}. Where another tool wrote it, export it as COCO"
        )
    if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        content["categories"] = content.get("categories") or []
    lists = [key for key in ("images", "annotations", "categories") if isinstance(content.get(key), list)]
    # Other formats show in their top keys, or in those of an annotation.
    first = content["annotations"][:1] if "annotations" in lists else []
    keys = {*content, *(key for entry in first if isinstance(entry, dict) for key in entry if key != "image")}
    if any(isinstance(value, dict) and "regions" in value for value in content.values()):
        keys.add("_via_img_metadata")
    other = [f". This looks like {name}" for key, name in OTHER_FORMATS.items() if key in keys]
    if len(lists) < 3 or other:
        names = join_names(sorted(content)) or "(none)"
        raise DataError(f"{file}: has the keys {names} {EXPECTED}{''.join(other[:1])}")
    return content


def check_images(
    entries: list, folder: Path, skip_missing: bool, problems: Problems, remarks: Problems
) -> dict[Hashable, tuple[str, Size]]:
    """{id: (path below `folder`, size)} of the usable images; equal entries count once.

    An id or a file that several entries have makes each of them invalid.

    skip_missing: whether images without a file are left out with a warning
    problems: receives the invalid entries · remarks: receives those that are odd
    """
    named: dict[tuple[Any, str], tuple[int, Any]] = {}  # {(id, file_name): (position, entry)}
    for position, entry in enumerate(entries):
        name = image_name(entry)
        named.setdefault((entry["id"] if present(entry, "id") else (None, position), name), (position, entry))
    found = {key: locate(folder, key[1]) if key[1] and is_utf8(key[1]) else None for key in named}
    ids = Counter(key for key, _ in named)
    files = Counter(found[key] or key[1] for key in named)
    valid: dict[Hashable, tuple[str, Size]] = {}
    for key, (position, entry) in named.items():
        name, path = key[1] or f"images[{position}]", found[key]
        try:
            if not present(entry, "id") or not key[1]:
                raise InvalidEntry("have no id or no file_name")
            if ids[key[0]] > 1:
                raise InvalidEntry("share their id with another image", key[0])
            if files[path or name] > 1:
                raise InvalidEntry("share their file_name with another image", f"id {key[0]}")
            if not is_utf8(name):  # names become seeds, lines of a log and cells of a table
                raise InvalidEntry("have a file_name that is not valid UTF-8")
            if path is None:
                gone = EMBEDDED if entry.get("embedded") else f"have no file in {folder}"
                if not skip_missing:
                    raise InvalidEntry(f"{gone} (data.missing=skip leaves them out)")
                remarks["images", f"{gone} and are left out (data.missing=skip)"].append(name)
                continue
            # The size is needed before the image is read, to rasterize its polygons.
            valid[key[0]] = (path, _image_size(folder / path, entry))
            if path != name and "://" not in name and path not in tails(name)[:1]:
                remarks["images", f"are read by the end of their file_name, in {folder}"].append(name)
        except InvalidEntry as error:
            add_invalid(problems, "images", printable(name), error)
    return valid


def image_name(entry: Any) -> str:
    """The name of an image's file, or "" where it has none; LVIS has a URL instead."""
    given = [entry.get(key) for key in ("file_name", "coco_url")] if isinstance(entry, dict) else []
    return next((name for name in given if isinstance(name, str) and name), "")


def _image_size(path: Path, entry: dict[str, Any]) -> Size:
    """Height and width of the entry, or those of the file where it has neither."""
    height, width = entry.get("height"), entry.get("width")
    if not height and not width:
        try:
            return read_size(path)
        except DataError:
            raise InvalidEntry("have no height and width, and no file that can be read") from None
    if not (_is_side(height) and _is_side(width)):
        raise InvalidEntry("have no height and width in whole pixels")
    return int(height), int(width)


def named_annotations(entries: list, problems: Problems, remarks: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and entry of each annotation, also of those that share an id, which no other entry refers to.

    problems: receives other things than objects of JSON · remarks: receives shared ids, once each
    """
    ids = Counter(entry["id"] for entry in entries if present(entry, "id"))
    if shared := [str(key) for key, count in ids.items() if count > 1]:
        remarks["annotations", "share their id with others; all of them are read"] += shared
    # None: tqdm hides itself where the output is no terminal.
    hidden = None if distributed.is_main() else True
    for position, entry in enumerate(tqdm(entries, "reading annotations", leave=False, disable=hidden)):
        name = str(entry["id"]) if present(entry, "id") else f"annotations[{position}]"
        if not isinstance(entry, dict):
            problems["annotations", "are no objects of JSON {...}"].append(name)
        else:
            yield name, entry


def known_id(entry: dict[str, Any], key: str, known: Mapping | set) -> Any:
    """The id in `known` that an annotation has under `key`, also where one is a number and the other is its text.

    Raises: InvalidEntry when it is missing or not in `known`.
    """
    if present(entry, key):
        given = entry[key]
        if given in known:
            return given
        other = int(given) if isinstance(given, str) and re.fullmatch(r"\d{1,18}", given) else str(given)
        if other in known:
            return other
    raise InvalidEntry(f"have an unknown {key} (expected the id of one in the file)", entry.get(key))


def present(entry: Any, key: str) -> bool:
    """Whether an entry is an object of JSON with a hashable value under `key`."""
    return isinstance(entry, dict) and entry.get(key) is not None and isinstance(entry[key], Hashable)


def _is_side(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and 1 <= value <= MAX_SIDE and value == int(value)
