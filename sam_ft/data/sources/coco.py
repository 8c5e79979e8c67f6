"""Images with COCO instance annotations: for each split a JSON file and a folder of images."""

from collections.abc import Sequence
from pathlib import Path

from sam_ft.data.io.images import INTENSITIES
from sam_ft.data.io.rules import check_min_area
from sam_ft.data.sources.coco_split import CocoSplit
from sam_ft.data.sources.issues import Issue
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.tiles import check_tile


class Coco:
    """Images with COCO annotations, split into "train" and "val".

    root: `~` is the home folder · train, val: JSON files below root · train_images, val_images: folders below root
    categories: names of the categories that are objects, None for all; the others are background
    min_area: pixels of a mask; smaller objects are ignored like crowds, neither object nor background
    intensity: how images of more than 8 bits are scaled, see `images.INTENSITIES`
    on_bad: "stop" at annotations and images that cannot be used, or "skip" them with a warning as long as they are at
        most 1 % (or one) of all
    tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
        train: str = "train.json",
        val: str = "val.json",
        train_images: str = "train",
        val_images: str = "val",
        categories: Sequence[str] | None = None,
        min_area: int = 0,
        intensity: str = "percentile",
        on_bad: str = "stop",
        tile: int | str | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.files = {"train": (train, train_images), "val": (val, val_images)}
        check_tile("data.tile", tile)
        self.tile = tile
        self.categories = categories
        self.min_area = min_area
        self.intensity = intensity
        self.on_bad = on_bad
        if intensity not in INTENSITIES:
            raise ConfigError(f"data.intensity={intensity} is not known; expected one of {', '.join(INTENSITIES)}")
        if on_bad not in ("stop", "skip"):
            raise ConfigError(f"data.on_bad={on_bad} is not known; expected stop or skip")
        check_min_area(min_area)
        # Of a text, `in` would find parts of names.
        if isinstance(categories, str) or (categories is not None and not categories):
            raise ConfigError(f"data.categories={categories}; expected a list of names such as [person,dog], or null")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the folder that holds {train}")

    def split(self, name: str) -> CocoSplit:
        """The images of "train" or "val".

        Raises: DataError when the file is no COCO instance JSON or lacks a category; single invalid images and
            annotations raise later, in `CocoSplit.survey`.
        """
        if name not in self.files:
            raise ConfigError(f"the split {name} is not known; expected train or val")
        file, images = self.files[name]
        folder = self.root / images
        if not folder.is_dir():
            raise DataError(f"{folder}: is not a folder; name that of the images with data.{name}_images")
        return CocoSplit(self.root / file, folder, self.categories, self.min_area, self.intensity, self.on_bad)

    def usable_split(self, name: str, issues: list[Issue]) -> CocoSplit:
        """The same; `issues` receives the entries of its file that cannot be used."""
        split = self.split(name)
        issues += split.json_issues()
        return split
