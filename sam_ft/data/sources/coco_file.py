"""The usable content of a COCO instance file as a few arrays, which forked workers share."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.data.io.intensities import INTENSITIES
from sam_ft.data.io.rules import check_min_area
from sam_ft.data.sources.coco_categories import (
    label_categories,
    read_categories,
    select_categories,
    similar_names,
)
from sam_ft.data.sources.coco_facts import CocoFacts
from sam_ft.data.sources.coco_issues import InvalidEntry, LeftOut, Problems, add_invalid, error_lines, warn_of
from sam_ft.data.sources.coco_json import check_images, known_id, named_annotations, present
from sam_ft.data.sources.coco_masks import is_near, is_normalized, segmentation_to_rle
from sam_ft.data.sources.coco_outlines import corner_reason, follow_rows, near_repeats, reaches_out
from sam_ft.data.sources.names import unique_names
from sam_ft.types import OBJECT, Size
from sam_ft.utils.errors import ConfigError, DataError

_KNOWN = {
    "intensity": tuple(INTENSITIES),
    "on_bad": ("stop", "skip"),
    "missing": ("stop", "skip"),
}
OUTLINE_REASONS = "look at the pictures: outlines may be in percent, of another scale, or with x and y exchanged"
NORMALIZED_PROBLEM = "have coordinates between 0 and 1"
CHECKED = 100  # RLEs, for the order of their pixels
CROWD = ("1", "1.0", "true")  # values of iscrowd
TINY = 4  # pixels: an object with coordinates between 0 and 1 covers no more


@dataclass(frozen=True)
class CocoRules:
    """Which annotations are objects, and how images are read; see `Coco`.

    crowds: None where the format has none
    """

    categories: Sequence[str | int] | None = None
    min_area: int = 0
    intensity: str = "percentile"
    on_bad: str = "stop"
    missing: str = "stop"
    crowds: str | None = None

    def __post_init__(self) -> None:
        for key, known in _KNOWN.items():
            if getattr(self, key) not in known:
                raise ConfigError(f"data.{key}={getattr(self, key)} is not known; expected one of {', '.join(known)}")
        check_min_area(self.min_area)
        # Of a text, `in` would find parts of names.
        if isinstance(self.categories, str) or (self.categories is not None and not self.categories):
            raise ConfigError(
                f"data.categories={self.categories}; expected a list of names such as [person,dog], or null"
            )


@dataclass(frozen=True)
class CocoFile:
    """I usable images and their A masks in order of images.

    file: that holds the annotations · folder: of the images · names: I of the samples: the stem of the image where that
        is unique, else its path below the folder
    files: I names below the folder · sizes: I sizes · classes: {label: name} of the chosen categories
    merged: {name: ids} of those with one name · starts: (I + 1,) image i has the masks starts[i] to starts[i + 1]
    labels: (A,) of the categories · objects: (A,) bool, true for objects and false for pixels to ignore
    crowds, framed: (A,) bool, true for iscrowd=1, and for objects with the whole frame as their box
    ends: (A + 1,) mask a is runs[ends[a]:ends[a + 1]] · runs: compressed RLEs, one after the other
    problems: of images and annotations that cannot be used · remarks: of those that are odd
    errors: lines about the problems, unless they are skipped · rules: by which the file was read
    """

    file: Path
    folder: Path
    names: list[str]
    files: list[str]
    sizes: list[Size]
    classes: dict[int, str]
    merged: dict[str, list[int]]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    objects: NDArray[np.bool_]
    crowds: NDArray[np.bool_]
    framed: NDArray[np.bool_]
    ends: NDArray[np.int64]
    runs: bytes
    problems: Problems
    remarks: Problems
    errors: list[str]
    rules: CocoRules

    @property
    def facts(self) -> CocoFacts:
        images = np.repeat(np.arange(len(self.files)), np.diff(self.starts))
        framed = len(np.unique(images[self.framed]))
        numbers = len(self.files), len(self.labels), int(self.crowds.sum())
        return CocoFacts(*numbers, self.rules.crowds, framed, self.merged)

    def select(self, images: Sequence[int]) -> "CocoFile":
        """The same with some of the images, in their order."""
        own = [np.arange(self.starts[image], self.starts[image + 1]) for image in images]
        kept = np.concatenate([np.zeros(0, np.int64), *own])
        lengths = np.diff(self.ends)[kept]
        return replace(
            self,
            names=[self.names[image] for image in images],
            files=[self.files[image] for image in images],
            sizes=[self.sizes[image] for image in images],
            starts=np.cumsum([0, *map(len, own)]),
            labels=self.labels[kept],
            objects=self.objects[kept],
            crowds=self.crowds[kept],
            framed=self.framed[kept],
            ends=np.cumsum([0, *lengths]),
            runs=b"".join(self.runs[self.ends[mask] : self.ends[mask + 1]] for mask in kept),
        )


@dataclass
class _Masks:
    """The masks in the order of the file, and the position of the image of each one; see `CocoFile`."""

    places: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    objects: list[bool] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    framed: list[bool] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    runs: list[bytes] = field(default_factory=list)


def read_coco(
    file: Path,
    folder: Path,
    content: dict[str, list],
    rules: CocoRules,
    label_of: dict[str, int] | None = None,
    own: Problems | None = None,
) -> CocoFile:
    """Reads and checks the annotations of a file, and logs the odd ones.

    file: for messages · folder: of the images
    content: lists of images, annotations and categories as in COCO; without categories all objects are of one class. In
        the place of a segmentation may stand an InvalidEntry
    label_of: the label of each name of a category, of files read before; gets those of this file
    own: remarks on the files themselves
    Raises: DataError about the first invalid category, when it lacks one of the chosen ones, or without images.
    """
    # Categories and images first: an annotation is only valid if both of its ids are.
    known = read_categories(file, content["categories"]) or dict(OBJECT)
    labels, merged = label_categories(select_categories(file, known, rules.categories), label_of)
    problems: Problems = defaultdict(list)
    remarks: Problems = defaultdict(list)
    if similar := similar_names(dict.fromkeys([*(label_of or ()), *(known[key] for key in labels)])):
        remarks[
            "class names",
            "differ only in case or spaces, and are classes of their own; write them alike if they are one",
        ] = similar
    usable = check_images(content["images"], folder, rules.missing == "skip", problems, remarks)
    masks = _read_masks(content, (known, labels), usable, rules, problems, remarks)
    totals = {kind: len(content[kind]) for kind in ("images", "annotations")}
    errors = error_lines(file, problems, totals, rules.on_bad)
    remarks.update(own or {})
    warn_of(file, remarks)
    if not usable and not errors:
        found = f"; none of its {totals['images']} images has a file in {folder}" if totals["images"] else ""
        raise DataError(f"{file}: lists no images that can be used; expected at least one{found}")
    places = np.array(masks.places, np.int64)
    order = np.argsort(places, kind="stable")  # keeps the file's order within an image
    files = [path for path, _ in usable.values()]
    return CocoFile(
        file=file,
        folder=folder,
        names=unique_names(files),
        files=files,
        sizes=[size for _, size in usable.values()],
        classes={label: known[key] for key, label in labels.items()},
        merged=merged,
        # The sorted positions; image i begins where i would be inserted.
        starts=np.searchsorted(places[order], np.arange(len(usable) + 1)),
        labels=np.array(masks.labels, np.int64)[order],
        objects=np.array(masks.objects, bool)[order],
        crowds=np.array(masks.crowds, bool)[order],
        framed=np.array(masks.framed, bool)[order],
        ends=np.cumsum([0, *(len(masks.runs[i]) for i in order)]),
        runs=b"".join(masks.runs[i] for i in order),
        problems=problems,
        remarks=remarks,
        errors=errors,
        rules=rules,
    )


def _read_masks(
    content: dict[str, list],
    categories: tuple[Mapping[int, str], Mapping[int, int]],
    usable: Mapping[Hashable, tuple[str, Size]],
    rules: CocoRules,
    problems: Problems,
    remarks: Problems,
) -> _Masks:
    """Rasterizes the annotations of the usable images; equal ones of an image count once.

    categories: {id: name} of all, and {id: label} of the chosen ones · problems, remarks: receive the others
    """
    (known, labels), found = categories, _Masks()
    # Also those of invalid images: their annotations are no problem of their own.
    ids = {image["id"] for image in content["images"] if present(image, "id")}
    position = {key: place for place, key in enumerate(usable)}
    first: dict[tuple, str] = {}  # the name of the first annotation of each image, label and mask
    normalized: list[str] = []
    other_boxes: list[str] = []
    reaching: list[str] = []
    encoded: dict[str, tuple[bytes, Size]] = {}  # the first ones
    for name, entry in named_annotations(content["annotations"], problems, remarks):
        try:
            category = known_id(entry, "category_id", known) if content["categories"] else 1
            image = known_id(entry, "image_id", ids)
            if category not in labels or image not in usable:  # an invalid image is a problem of its own
                continue
            size = usable[image][1]
            # Rasterized once, here; the samples only decode run lengths.
            mask = segmentation_to_rle(entry.get("segmentation"), size)
        except InvalidEntry as error:
            add_invalid(remarks if isinstance(error, LeftOut) else problems, "annotations", name, error)
            continue
        area = int(rle.area(mask))
        if area <= TINY and is_normalized(entry["segmentation"]):
            normalized.append(name)
        if not area:
            remarks["annotations", "cover no pixel and are left out"].append(name)
            continue
        label, is_crowd = labels[category], str(entry.get("iscrowd")).lower() in CROWD
        if first.setdefault((image, label, is_crowd, mask["counts"]), name) != name:
            remarks["annotations", "equal another one of their image; each object counts once"].append(name)
            continue
        is_object = (rules.crowds == "objects" or not is_crowd) and area >= rules.min_area  # else ignored
        found.places.append(position[image])
        found.labels.append(label)
        found.objects.append(is_object)
        found.crowds.append(is_crowd)
        box = rle.toBbox(mask).tolist()
        found.framed.append(is_object and box == [0, 0, *size[::-1]])
        if (given := entry.get("bbox")) is not None and not is_near(box, given):
            other_boxes.append(name)
        if isinstance(entry["segmentation"], dict) and len(encoded) < CHECKED:
            encoded[name] = mask["counts"], size
        if reaches_out(entry["segmentation"], box, size):
            reaching.append(name)
        found.names.append(name)
        found.boxes.append(box)
        found.runs.append(mask["counts"])
    total = len(content["annotations"])
    if len(normalized) > total / 2:
        remarks.pop(("annotations", "cover no pixel and are left out"), None)
        problems["annotations", f"{NORMALIZED_PROBLEM} (expected pixels: x times width, y times height)"] = normalized
    elif normalized:
        remarks["annotations", f"{NORMALIZED_PROBLEM}, where pixels are expected"] = normalized
    if len(other_boxes) > total / 2:
        remarks["annotations", f"have an outline far from their bbox; {OUTLINE_REASONS}"] = other_boxes
    elif len(reaching) > total / 10:
        remarks["annotations", f"have an outline that goes on beyond their image; {OUTLINE_REASONS}"] = reaching
    if rules.crowds is not None and follow_rows(list(encoded.values())):
        order = "along the rows (expected down the columns); look at the pictures"
        remarks["annotations", f"have run lengths with the distances of pixels that are counted {order}"] = [*encoded]
    _remark_on_outlines(found, [size for _, size in usable.values()], remarks)
    return found


def _remark_on_outlines(found: _Masks, sizes: Sequence[Size], remarks: Problems) -> None:
    """sizes: of the images"""
    places, boxes = np.array(found.places, np.int64), np.array(found.boxes).reshape(-1, 4)
    own_sizes = np.array(sizes, np.int64).reshape(-1, 2)[places]
    if reason := corner_reason(boxes, own_sizes):
        remarks["annotations", f"lie in the upper left of their images; look at the pictures: {reason}"] = found.names
    objects = np.flatnonzero(~np.array(found.crowds, bool))
    runs = [found.runs[position] for position in objects]
    groups = np.stack([places, np.array(found.labels, np.int64)], 1)[objects]
    if repeats := near_repeats(groups, boxes[objects], runs, own_sizes[objects]):
        same = "nearly cover another one of their image and class, and count as objects; look at the pictures"
        remarks["annotations", same] = [found.names[objects[position]] for position in repeats]
