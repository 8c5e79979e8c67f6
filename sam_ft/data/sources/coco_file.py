"""The usable content of a COCO instance file as a few arrays, which forked workers share."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from sam_ft.data.sources.coco_issues import InvalidEntry, Problems, add_invalid
from sam_ft.data.sources.coco_json import (
    check_images,
    has_file,
    known_id,
    load_json,
    present,
    read_categories,
    select_categories,
    unique_annotations,
)
from sam_ft.data.sources.coco_masks import segmentation_to_rle
from sam_ft.types import Size


@dataclass(frozen=True)
class CocoFile:
    """I usable images and their A masks in order of images.

    files: I names below the folder · sizes: I sizes · classes: {id: name} of the chosen categories
    starts: (I + 1,) image i has the masks starts[i] to starts[i + 1] · labels: (A,) category ids
    objects: (A,) bool, true for objects and false for pixels to ignore
    ends: (A + 1,) mask a is runs[ends[a]:ends[a + 1]] · runs: compressed RLEs, one after the other
    problems: of images and annotations that cannot be used · totals: number of images and annotations in the file
    blank: valid annotations that cover no pixel
    """

    files: list[str]
    sizes: list[Size]
    classes: dict[int, str]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    objects: NDArray[np.bool_]
    ends: NDArray[np.int64]
    runs: bytes
    problems: Problems
    totals: dict[str, int]
    blank: list[str]


def read_coco(file: Path, folder: Path, categories: Sequence[str] | None, min_area: int) -> CocoFile:
    """Reads and checks a file; images whose file is not in `folder` cannot be used.

    Raises: DataError when the file is no COCO instance JSON, or lacks one of `categories`.
    """
    content = load_json(file)
    # Categories and images first: an annotation is only valid if both of its ids are.
    known = read_categories(file, content["categories"])
    classes = select_categories(file, known, categories)
    problems: Problems = defaultdict(list)
    valid = check_images(content["images"], problems)
    # id → position, of images that are valid and have a file.
    usable = {key: place for place, key in enumerate(k for k in valid if has_file(folder, valid[k][0], problems))}
    # Also those of invalid images: their annotations are no problem of their own.
    ids = {image["id"] for image in content["images"] if present(image, "id")}
    places: list[int] = []
    labels: list[int] = []
    objects: list[bool] = []
    masks: list[bytes] = []
    blank: list[str] = []
    for name, entry in unique_annotations(content["annotations"], problems):
        try:
            category, image = known_id(entry, "category_id", known), known_id(entry, "image_id", ids)
            if category not in classes or image not in valid:  # an invalid image is a problem of its own
                continue
            # Rasterized once, here; the samples only decode run lengths.
            mask = segmentation_to_rle(entry.get("segmentation"), valid[image][1])
        except InvalidEntry as error:
            add_invalid(problems, "annotations", name, error)
            continue
        area = int(rle.area(mask))
        if not area:
            blank.append(name)
        elif image in usable:
            places.append(usable[image])
            labels.append(category)
            objects.append(entry.get("iscrowd") != 1 and area >= min_area)  # else ignored
            masks.append(mask["counts"])
    order = np.argsort(np.array(places, np.int64), kind="stable")  # keeps the file's order within an image
    return CocoFile(
        files=[valid[key][0] for key in usable],
        sizes=[valid[key][1] for key in usable],
        classes=classes,
        # The sorted positions; image i begins where i would be inserted.
        starts=np.searchsorted(np.array(places, np.int64)[order], np.arange(len(usable) + 1)),
        labels=np.array(labels, np.int64)[order],
        objects=np.array(objects, bool)[order],
        ends=np.cumsum([0, *(len(masks[i]) for i in order)]),
        runs=b"".join(masks[i] for i in order),
        problems=problems,
        totals={kind: len(content[kind]) for kind in ("images", "annotations")},
        blank=blank,
    )
