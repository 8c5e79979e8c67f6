"""Images with the text files of YOLO's segmentation: a line with a class and a polygon for each object."""

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sam_ft.data.sources.annotated import AnnotatedImages, size_or_none
from sam_ft.data.sources.coco_file import CocoFile, CocoRules, read_coco
from sam_ft.data.sources.coco_issues import Problems, warn_of
from sam_ft.data.sources.yolo_files import (
    class_names,
    find_description,
    label_file,
    load_description,
    split_images,
    surplus_labels,
)
from sam_ft.data.sources.yolo_lines import read_lines
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import expand_user


class Yolo(AnnotatedImages):
    """Images with a text file each, as Ultralytics, Roboflow and CVAT write them, split into "train" and "val".

    The splits are those of data.yaml, whose paths are also found where they are written for another folder; without it
    the folders images/train and images/val, or train/images and val/images. A single folder is split by a seeded hash
    of each name.

    root: `~` is the home folder · yaml: file below root, None for the one that is there
    categories ... missing: see `Coco`; of classes instead of categories · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
        yaml: str | None = None,
        categories: Sequence[str | int] | None = None,
        min_area: int = 0,
        intensity: str = "percentile",
        on_bad: str = "stop",
        missing: str = "stop",
        val_fraction: float = 0.2,
        seed: int = 0,
        tile: int | str | None = None,
    ) -> None:
        self.root = expand_user(root)
        super().__init__(CocoRules(categories, min_area, intensity, on_bad, missing), val_fraction, seed, tile)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the one that holds data.yaml")
        self.yaml = None if yaml is None else self.root / yaml

    @cached_property
    def _description(self) -> dict[str, Any]:
        file = self.yaml or find_description(self.root)
        return {} if file is None else load_description(file)

    def place(self, split: str) -> Hashable:
        return tuple(split_images(self.root, self._description, split))

    def read(self, place: Hashable) -> CocoFile:
        images, annotations = [], []
        files = {image: label_file(self.root, image) for image in cast(tuple[str, ...], place)}
        if files and not any(files.values()):
            raise DataError(
                f"{self.root}: none of {len(files)} images has a text file, first {next(iter(files))}; expected "
                "one of the same name in a folder labels/ in the place of images/, or beside the image"
            )
        counts = Counter(files.values())
        shared = [label for label, count in counts.items() if label and count > 1]
        for image, label in files.items():
            size = size_or_none(self.root / image)
            images.append({"id": image, "file_name": image, "height": size[0], "width": size[1]})
            for number, category, outline in read_lines(self.root / label, size) if label else []:
                own_name = label if label not in shared else f"{label} of {image}"
                entry = {"id": f"{own_name}: line {number}", "image_id": image, "category_id": category}
                annotations.append({**entry, "segmentation": outline})
        names = class_names(self._description, {entry["category_id"] for entry in annotations})
        categories = [{"id": number, "name": name} for number, name in names.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        read = read_coco(self.root, self.root, content, self.rules)
        own: Problems = {}
        if surplus := surplus_labels(self.root, files):
            own["text files", "have no image of their name, so their objects are left out"] = surplus
        if shared:
            own["text files", "have several images of their name, of which each has their objects"] = shared
        warn_of(self.root, own)
        read.remarks.update(own)
        return read
