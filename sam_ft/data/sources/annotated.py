"""Images of which other files hold the outlines of the objects: the part that all such data sets share."""

from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple

from sam_ft.data.io.images import read_size
from sam_ft.data.sources.coco_file import CocoFile, CocoRules
from sam_ft.data.sources.coco_split import CocoSplit
from sam_ft.data.sources.folder import SPLITS, spelled
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.pairing import check_val_fraction, split_by_hash
from sam_ft.types import Size
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.tiles import check_tile


def split_folders(root: Path) -> dict[str, Path]:
    """{split: its folder}, `root` for both where it has none of their names.

    Raises: DataError when it has only one of them.
    """
    found = {
        split: next((root / own for name in names if (own := spelled(root, name)) and (root / own).is_dir()), None)
        for split, names in SPLITS.items()
    }
    if not any(found.values()):
        return dict.fromkeys(SPLITS, root)
    if missing := [split for split, folder in found.items() if folder is None]:
        own = next(folder.name for folder in found.values() if folder is not None)
        raise DataError(f"{root}: has {own}/ but no {missing[0]}/; expected both or neither")
    return {split: folder for split, folder in found.items() if folder is not None}


def size_or_none(path: Path) -> Size:
    """(H, W) of an image, (0, 0) where it cannot be read, which `read_coco` finds again with all others."""
    try:
        return read_size(path)
    except DataError:
        return 0, 0


class _Image(NamedTuple):
    name: str
    position: int


class AnnotatedImages:
    """A data set with the splits "train" and "val", of which a subclass finds and reads the files.

    Where both splits come from one place, a seeded hash of each name splits its images, so new images move no others.

    rules: see `CocoRules` · val_fraction: of the images of one place · tile: see `splits.tile_splits`
    """

    def __init__(self, rules: CocoRules, val_fraction: float, seed: int, tile: int | str | None) -> None:
        check_tile("data.tile", tile)
        check_val_fraction(val_fraction)
        self.rules = rules
        self.val_fraction = val_fraction
        self.seed = seed
        self.tile = tile
        self._shared: CocoFile | None = None  # the content of the place of both splits

    def place(self, split: str) -> Hashable:
        """The file or folder of a split. Raises: DataError where there is none."""
        raise NotImplementedError

    def read(self, place: Hashable) -> CocoFile:
        """The content of a place. Raises: DataError; single invalid images and annotations are in `errors`."""
        raise NotImplementedError

    def split(self, name: str) -> CocoSplit:
        """The images of "train" or "val".

        Raises: DataError when the files are of another format or lack a category; single invalid images and annotations
            raise later, in `CocoSplit.survey`.
        """
        if name not in SPLITS:
            raise ConfigError(f"the split {name} is not known; expected train or val")
        place = self.place(name)
        if place != self.place({"train": "val", "val": "train"}[name]):
            return CocoSplit(self.read(place), self.rules.intensity)
        content = self._shared = self._shared or self.read(place)
        if content.errors and len(content.names) < 2:  # the survey raises them
            return CocoSplit(content, self.rules.intensity)
        images = [_Image(own, position) for position, own in enumerate(content.names)]
        where = (content.file, "annotate a train set and a val set apart")
        chosen = split_by_hash(images, name, self.val_fraction, self.seed, where)
        return CocoSplit(content.select([image.position for image in chosen]), self.rules.intensity)

    def usable_split(self, name: str, issues: list[Issue]) -> CocoSplit:
        """The same; `issues` receives the entries that cannot be used."""
        split = self.split(name)
        issues += split.json_issues()
        return split
