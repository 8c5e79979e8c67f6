"""Images with the JSON files that LabelMe writes beside them."""

from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sam_ft.data.sources.annotated import AnnotatedImages, split_folders
from sam_ft.data.sources.coco_file import CocoFile, CocoRules, read_coco
from sam_ft.data.sources.coco_issues import Problems
from sam_ft.data.sources.labelme_shapes import read_labelme
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import expand_user


class Labelme(AnnotatedImages):
    """Images with a LabelMe JSON each, split into "train" and "val".

    The split is the first of these: the sub-folders train/ and val/; a fraction by a seeded hash of each name, so new
    images move no others. Images without a JSON are not used.

    root: a folder with JSON files, there or below; `~` is the home folder
    categories ... missing: see `Coco`; of labels instead of categories · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
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
            raise DataError(f"{self.root}: is not a folder; set data.root to the one that holds LabelMe's .json files")

    def place(self, split: str) -> Hashable:
        return split_folders(self.root)[split]

    def read(self, place: Hashable) -> CocoFile:
        folder = cast(Path, place)
        # Classes have the same numbers in both splits.
        labels = sorted({entry["label"] for content in self._contents.values() for entry in content["annotations"]})
        categories = [{"id": number, "name": label} for number, label in enumerate(labels, 1)]
        numbers = {label: number for number, label in enumerate(labels, 1)}
        images, annotations = self._contents[folder]["images"], self._contents[folder]["annotations"]
        annotations = [{**entry, "category_id": numbers[entry["label"]]} for entry in annotations]
        content = {"images": images, "annotations": annotations, "categories": categories}
        return read_coco(folder, folder, content, self.rules, own=_odd_files(images, annotations))

    @cached_property
    def _contents(self) -> dict[Path, dict[str, list[dict[str, Any]]]]:
        """{folder: images and annotations} of both splits."""
        return {folder: read_labelme(folder) for folder in split_folders(self.root).values()}


def _odd_files(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Problems:
    """Files that name another image than their own, and those whose shapes are all of one group."""
    found: Problems = {}
    if unlike := [f"{image['id']} ({image['file_name']})" for image in images if image["unlike"]]:
        found["JSON files", "have another image as imagePath than the one of their own name beside them"] = unlike
    groups, files = {entry["group"] for entry in annotations}, {entry["image_id"] for entry in annotations}
    joined = any(entry["shapes"] > 1 for entry in annotations)
    if len(groups) == 1 and None not in groups and len(files) > 1 and joined:
        problem = f"have the group_id {groups.pop()} in all shapes, so those of one label are one object of the image"
        found["JSON files", problem] = sorted(files)
    return found
