"""Images with COCO instance annotations: one JSON file, or one for each split, and folders of images."""

import logging
from collections.abc import Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

from sam_ft.data.sources.annotated import AnnotatedImages
from sam_ft.data.sources.coco_categories import label_categories, peek_categories, read_categories
from sam_ft.data.sources.coco_file import CocoFile, CocoRules, read_coco
from sam_ft.data.sources.coco_issues import Problems
from sam_ft.data.sources.coco_json import load_json
from sam_ft.data.sources.coco_layouts import find_image_folder, find_json, unclear_file
from sam_ft.data.sources.sa1b import load_folder
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.files import expand_user

log = logging.getLogger("sam_ft")


class Coco(AnnotatedImages):
    """Images with COCO annotations, split into "train" and "val".

    root: `~` is the home folder · train, val: JSON files below root, or folders with a JSON an image as in SA-1B; None
        for those that are there, see `coco_layouts.find_json`. Of a single file, a share of the images is val
    train_images, val_images: folders below root, None for the one that holds the images of the file
    categories: names of the categories that are objects, None for all; the others are background
    crowds: "ignore": neither object nor background; "objects": as other annotations
    min_area: pixels of a mask; smaller objects are ignored like crowds, neither object nor background
    intensity: how images of more than 8 bits are scaled, see `images.INTENSITIES`
    on_bad: "stop" at annotations and images that cannot be used, or "skip" them with a warning as long as they are at
        most 1 % (or one) of all
    missing: "stop" at images that are not there, or "skip" them with a warning, however many they are
    val_fraction, seed: of a split by name where there is no val file · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
        train: str | None = None,
        val: str | None = None,
        train_images: str | None = None,
        val_images: str | None = None,
        categories: Sequence[str | int] | None = None,
        crowds: str = "ignore",
        min_area: int = 0,
        intensity: str = "percentile",
        on_bad: str = "stop",
        missing: str = "stop",
        val_fraction: float = 0.2,
        seed: int = 0,
        tile: int | str | None = None,
    ) -> None:
        if crowds not in ("ignore", "objects"):
            raise ConfigError(f"data.crowds={crowds} is not known; expected ignore or objects")
        self.root = expand_user(root)
        super().__init__(CocoRules(categories, min_area, intensity, on_bad, missing, crowds), val_fraction, seed, tile)
        self._label_of: dict[str, int] = {}  # of both splits, which may number their categories differently
        if not self.root.is_dir():
            raise DataError(
                f"{self.root}: is not a folder; set data.root to the folder that holds {train or 'the JSON'}"
            )
        self.given = {"train": train, "val": val}
        self.images = {"train": train_images, "val": val_images}

    def place(self, split: str) -> Hashable:
        file, images = self._files[split], self.images[split]
        if self._files["train"] != self._files["val"]:
            return file, images, split
        return file, images or self.images["train"], None

    @cached_property
    def _files(self) -> dict[str, str | None]:
        found = find_json(self.root, self.given)
        if found != self.given:
            val = found["val"] if found["val"] != found["train"] else f"data.val_fraction={self.val_fraction} of it"
            log.info("%s: train is %s, val is %s", self.root, found["train"], val)
        return found

    def _labels_of_train(self) -> dict[str, int]:
        """{name: label} as the split "train" gets them; empty where its categories are not found."""
        train, chosen, label_of = self._files["train"], self.rules.categories, dict[str, int]()
        if train is None:
            return {}
        try:
            known = read_categories(self.root / train, peek_categories(self.root / train))
        except DataError:
            return {}
        label_categories({key: n for key, n in known.items() if chosen is None or n in map(str, chosen)}, label_of)
        return label_of

    def read(self, place: Hashable) -> CocoFile:
        file, images, split = cast(tuple[str | None, str | None, str | None], place)
        if file is None:
            raise unclear_file(self.root, split or "train")
        content = load_folder(self.root / file) if (self.root / file).is_dir() else load_json(self.root / file)
        own: Problems = {}
        if images is None:
            found = find_image_folder(self.root, file, content["images"], split)
            folder, own = found.best, found.remarks(split)
        elif not (folder := self.root / images).is_dir():
            raise DataError(f"{folder}: is not a folder; name that of the images with data.{split or 'train'}_images")
        if split == "val" and not self._label_of:  # an evaluation must have the labels of the training
            self._label_of.update(self._labels_of_train())
        return read_coco(self.root / file, folder, content, self.rules, self._label_of, own)
