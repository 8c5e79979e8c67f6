"""Reads a COCO instance file into arrays, and says of every image and annotation that cannot be used why not.

pycocotools' COCO class is not used: it prints, keeps each number of the file as an object of its own, and stops at the
first missing key.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from tqdm import tqdm

from sam_ft.data.sources.coco_masks import Fault, encode
from sam_ft.data.sources.issues import listed
from sam_ft.types import Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError

LONGEST_SIDE = 65_535  # pixels: pycocotools counts an image's pixels in 32 bits
KINDS_OF_JSON = {  # a key that gives it away, and where annotations are of that kind
    "shapes": "LabelMe, one file an image; convert them to one COCO file",
    "segments_info": "COCO panoptic segmentation; use the instances file",
    "caption": "COCO captions; use the instances file",
    "_via_img_metadata": "VGG Image Annotator; export it as COCO",
}
EXPECTED = "but no COCO instance annotations; expected the keys images, annotations and categories, each a list"

Faults = dict[tuple[str, str], list[str]]  # ("images" or "annotations", what is wrong with them): which


@dataclass(frozen=True)
class CocoFile:
    """What can be used of a COCO file: I images, and their A masks in order of images.

    files: I names below the folder · sizes: I sizes · classes: {id: name} of the chosen categories
    starts: (I + 1,) image i has the masks starts[i] to starts[i + 1] · labels: (A,) category ids
    objects: (A,) bool, true for objects and false for pixels to ignore
    ends: (A + 1,) mask a is runs[ends[a]:ends[a + 1]] · runs: compressed RLEs, one after the other
    faults: what cannot be used · totals: how many images and annotations there were
    blank: annotations that cover no pixel though nothing is wrong with them
    """

    files: list[str]
    sizes: list[Size]
    classes: dict[int, str]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    objects: NDArray[np.bool_]
    ends: NDArray[np.int64]
    runs: bytes
    faults: Faults
    totals: dict[str, int]
    blank: list[str]


def read_coco(file: Path, folder: Path, categories: Sequence[str] | None, min_area: int) -> CocoFile:
    """Reads and checks a file; images whose file is not in `folder` cannot be used.

    Raises: DataError when the file is no COCO instance JSON, or lacks one of `categories`.
    """
    content = _read_json(file)
    known = _categories(file, content["categories"])
    classes = _chosen(file, known, categories)
    faults: Faults = defaultdict(list)
    sound = _images(content["images"], faults)
    usable = {key: place for place, key in enumerate(k for k in sound if _is_there(folder, sound[k][0], faults))}
    ids = {image["id"] for image in content["images"] if _has_key(image, "id")}
    places: list[int] = []
    labels: list[int] = []
    objects: list[bool] = []
    masks: list[bytes] = []
    blank: list[str] = []
    for name, entry in _annotations(content["annotations"], faults):
        try:
            category, image = _belongs(entry, "category_id", known), _belongs(entry, "image_id", ids)
            if category not in classes or image not in sound:  # an image that cannot be used is a fault of its own
                continue
            mask = encode(entry.get("segmentation"), sound[image][1])
        except Fault as fault:
            faults["annotations", fault.what].append(f"{name} ({fault.detail})" if fault.detail != "" else name)
            continue
        area = int(rle.area(mask))
        if not area:
            blank.append(name)
        elif image in usable:
            places.append(usable[image])
            labels.append(category)
            objects.append(entry.get("iscrowd") != 1 and area >= min_area)
            masks.append(mask["counts"])
    order = np.argsort(np.array(places, np.int64), kind="stable")  # within an image they stay as they were
    return CocoFile(
        files=[sound[key][0] for key in usable],
        sizes=[sound[key][1] for key in usable],
        classes=classes,
        starts=np.searchsorted(np.array(places, np.int64)[order], np.arange(len(usable) + 1)),
        labels=np.array(labels, np.int64)[order],
        objects=np.array(objects, bool)[order],
        ends=np.cumsum([0, *(len(masks[i]) for i in order)]),
        runs=b"".join(masks[i] for i in order),
        faults=faults,
        totals={kind: len(content[kind]) for kind in ("images", "annotations")},
        blank=blank,
    )


def _read_json(file: Path) -> dict[str, list]:
    """The content of a file that has lists of images, annotations and categories; info and licenses may be missing."""
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
    first = content["annotations"][:1] if "annotations" in lists else []
    keys = {*content, *(key for entry in first if isinstance(entry, dict) for key in entry)}
    looks = [f". This looks like {kind}" for key, kind in KINDS_OF_JSON.items() if key in keys]
    if len(lists) < 3 or looks:
        raise DataError(f"{file}: has the keys {listed(sorted(content)) or '(none)'} {EXPECTED}{''.join(looks[:1])}")
    return content


def _categories(file: Path, entries: list) -> dict[int, str]:
    """{id: name}; ids may have gaps."""
    known: dict[int, str] = {}
    for entry in entries:
        sound = isinstance(entry, dict) and type(entry.get("id")) is int and isinstance(entry.get("name"), str)
        if not sound or entry["id"] in known or not 0 <= entry["id"] < 2**31:
            raise DataError(f"{file}: has the category {entry}; expected each with a whole id of its own and a name")
        known[entry["id"]] = entry["name"]
    return known


def _chosen(file: Path, known: dict[int, str], names: Sequence[str] | None) -> dict[int, str]:
    if names is None:
        return known
    if unknown := [str(name) for name in names if name not in known.values()]:
        raise DataError(
            f"{file}: has no category {listed(unknown)}, which data.categories asks for; it has "
            f"{', '.join(known.values()) or 'none'}"
        )
    return {key: name for key, name in known.items() if name in names}


def _images(entries: list, faults: Faults) -> dict[Hashable, tuple[str, Size]]:
    """{id: (file name, size)} of those whose entries are sound; of several with one id or one file none is."""
    ids = Counter(entry["id"] for entry in entries if _has_key(entry, "id"))
    files = Counter(entry["file_name"] for entry in entries if _has_key(entry, "file_name"))
    sound: dict[Hashable, tuple[str, Size]] = {}
    for position, entry in enumerate(entries):
        name = str(entry["file_name"]) if _has_key(entry, "file_name") else f"images[{position}]"
        try:
            if not _has_key(entry, "id") or not _has_key(entry, "file_name") or not isinstance(entry["file_name"], str):
                raise Fault("have no id or no file_name")
            if not all(_is_side(entry.get(side)) for side in ("height", "width")):
                raise Fault("have no height and width in whole pixels")
            if ids[entry["id"]] > 1:
                raise Fault("share their id with another image", entry["id"])
            if files[name] > 1:
                raise Fault("share their file_name with another image", f"id {entry['id']}")
            if not _is_utf8(name):  # it becomes a seed, a line of a log, a cell of a table
                raise Fault("have a file_name that is not valid UTF-8")
            sound[entry["id"]] = (name, (int(entry["height"]), int(entry["width"])))
        except Fault as fault:
            shown = name if _is_utf8(name) else ascii(name)
            faults["images", fault.what].append(f"{shown} ({fault.detail})" if fault.detail != "" else shown)
    return sound


def _is_there(folder: Path, name: str, faults: Faults) -> bool:
    if Path(name).is_absolute() or ".." in Path(name).parts:  # nobody's file may name others of this machine
        faults["images", f"have a file_name that leads out of {folder}"].append(name)
        return False
    there = os.path.isfile(folder / name)  # Path.is_file raises on a name that is too long
    if not there:
        faults["images", f"have no file in {folder}"].append(name)
    return there


def _annotations(entries: list, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """What to call each annotation, and its entry; of several with one id none comes."""
    ids = Counter(entry["id"] for entry in entries if _has_key(entry, "id"))
    hidden = None if distributed.is_main() else True
    for position, entry in enumerate(tqdm(entries, "reading annotations", leave=False, disable=hidden)):
        name = str(entry["id"]) if _has_key(entry, "id") else f"annotations[{position}]"
        if not isinstance(entry, dict):
            faults["annotations", "are no objects of JSON {...}"].append(name)
        elif _has_key(entry, "id") and ids[entry["id"]] > 1:
            faults["annotations", "share their id with another annotation"].append(name)
        else:
            yield name, entry


def _belongs(entry: dict[str, Any], key: str, known: Mapping | set) -> Any:
    if not _has_key(entry, key) or entry[key] not in known:
        raise Fault(f"have an unknown {key} (expected the id of one in the file)", entry.get(key))
    return entry[key]


def _has_key(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and entry.get(key) is not None and isinstance(entry[key], Hashable)


def _is_side(value: Any) -> bool:
    return isinstance(value, int | float) and 1 <= value <= LONGEST_SIDE and value == int(value)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
