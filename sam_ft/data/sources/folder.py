"""A folder of images and a folder of masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.file_split import FileSplit
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.names import join_names, printable
from sam_ft.data.sources.pairing import (
    SampleFiles,
    check_val_fraction,
    files_by_stem,
    find_pairs,
    read_list,
    split_by_hash,
)
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.tiles import check_tile

LEAK_ADVICE = "a score on training images is meaningless, so keep each image in one split"
SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing", "dev")  # common names of splits


class Folder:
    """Images and masks of the same names, split into "train" and "val".

    The split is the first of these: the sub-folders train/ and val/, each with its own image and mask folder; the lists
    train.txt and val.txt; a fraction by a seeded hash of each name, so new images move no others. Files in neither list
    are not used.

    root: `~` is the home folder · image_folder, mask_folder: below root, or below root/train and root/val
    objects ... on_bad: see `Rules` · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
        image_folder: str = "images",
        mask_folder: str = "masks",
        objects: str = "whole",
        classes: Mapping[str, int | Sequence[int]] | None = None,
        components_per_class: bool = False,
        min_area: int = 16,
        ignore_index: int | Sequence[int] | None = None,
        intensity: str = "percentile",
        page: int | None = None,
        on_bad: str = "stop",
        val_fraction: float = 0.2,
        seed: int = 0,
        tile: int | str | None = None,
    ) -> None:
        self.root = Path(root).expanduser()
        self.image_folder = image_folder
        self.mask_folder = mask_folder
        self.rules = Rules(objects, classes, components_per_class, min_area, ignore_index, intensity, page, on_bad)
        check_tile("data.tile", tile)
        self.tile = tile
        self.val_fraction = val_fraction
        self.seed = seed
        check_val_fraction(val_fraction)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the folder that holds {image_folder}/")

    def split(self, name: str) -> FileSplit:
        """The images of "train" or "val".

        Raises: DataError when files do not pair up, or a split is missing or empty.
        """
        if name not in ("train", "val"):
            raise ConfigError(f"the split {name} is not known; expected train or val")
        return FileSplit(self._items(name), self.rules)

    def usable_split(self, name: str, issues: list[Issue]) -> FileSplit:
        """The same with the files that pair up; `issues` receives the others."""
        return FileSplit(self._items(name, issues), self.rules)

    def _items(self, split: str, issues: list[Issue] | None = None) -> list[SampleFiles]:
        # Folders first, then lists, then the hash.
        if self._has_both("train", "val"):
            return find_pairs(self.root / split, self.image_folder, self.mask_folder, None, issues)
        if self._has_both("train.txt", "val.txt"):
            # Names with an image or a mask: `find_pairs` reports those that lack the other.
            known = {*files_by_stem(self.root, self.image_folder), *files_by_stem(self.root, self.mask_folder)}
            lists = {which: read_list(self.root / f"{which}.txt", known, issues) for which in ("train", "val")}
            shared = sorted({*lists["train"]} & {*lists["val"]})
            if issues is not None:
                both = "is in train.txt and in val.txt"
                issues += [Issue(str(self.root), name, both, LEAK_ADVICE, kind="name") for name in shared]
                neither = "is in neither train.txt nor val.txt, and is not used"
                left = sorted(known - {*lists["train"], *lists["val"]})
                issues += [Issue(str(self.root), printable(name), neither, level="note", kind="name") for name in left]
            elif shared:
                raise DataError(
                    f"{self.root}: {len(shared)} names are in train.txt and in val.txt: {join_names(shared)}; "
                    f"{LEAK_ADVICE}"
                )
            return find_pairs(self.root, self.image_folder, self.mask_folder, lists[split], issues)
        # All pairs, of both splits; the hash chooses.
        pairs = find_pairs(self.root, self.image_folder, self.mask_folder, None, issues)
        choose = "name the images in train.txt and val.txt"
        return split_by_hash(pairs, split, self.val_fraction, self.seed, (self.root, choose))

    def _has_both(self, train: str, val: str) -> bool:
        """Whether both exist. Raises: DataError when only one does."""
        existing = [name for name in (train, val) if (self.root / name).exists()]
        # Otherwise a mistyped name would fall through to the split by hash.
        if len(existing) == 1:
            missing = val if existing == [train] else train
            others = sorted(
                path.name
                for path in self.root.iterdir()
                if path.stem.lower() in SPLIT_NAMES and path.name != existing[0]
            )
            found = (
                f"; it also has {join_names(others)}: rename the one that holds this split to {missing}"
                if others
                else ""
            )
            raise DataError(f"{self.root}: has {existing[0]} but no {missing}; expected both or neither{found}")
        return len(existing) == 2
