"""A folder of images and a folder of masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.file_split import FileSplit
from sam_ft.data.sources.issues import Fault, listed
from sam_ft.data.sources.pairing import Item, check_share, drawn, files_by_stem, find_pairs, read_list, shown
from sam_ft.utils.errors import ConfigError, DataError

LEAK = "a score on images that were trained on says nothing, so keep each in one split"
ALIKE = ("train", "training", "val", "valid", "validation", "test", "testing", "dev")  # what others call the two


class Folder:
    """Images and masks of the same names, split into "train" and "val".

    The split is, in this order: the sub-folders train/ and val/, each with its own image and mask folder; the lists
    train.txt and val.txt; or a share of the names, drawn by a seeded hash of each, so that adding images moves no
    other one. With lists, files that neither names are let be.

    root: `~` is the home folder · image_folder, mask_folder: below root, or below root/train and root/val
    objects ... on_bad: see `Rules`
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
    ) -> None:
        self.root = Path(root).expanduser()
        self.image_folder = image_folder
        self.mask_folder = mask_folder
        self.rules = Rules(objects, classes, components_per_class, min_area, ignore_index, intensity, page, on_bad)
        self.val_fraction = val_fraction
        self.seed = seed
        check_share(val_fraction)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the folder that holds {image_folder}/")

    def split(self, name: str) -> FileSplit:
        """The images of "train" or "val".

        Raises: DataError when files do not pair up, or a split is missing or empty.
        """
        if name not in ("train", "val"):
            raise ConfigError(f"the split {name} is not known; expected train or val")
        return FileSplit(self._items(name), self.rules)

    def sound_split(self, name: str, faults: list[Fault]) -> FileSplit:
        """The same of what pairs up; `faults` takes what does not."""
        return FileSplit(self._items(name, faults), self.rules)

    def _items(self, split: str, faults: list[Fault] | None = None) -> list[Item]:
        if self._both("train", "val"):
            return find_pairs(self.root / split, self.image_folder, self.mask_folder, None, faults)
        if self._both("train.txt", "val.txt"):
            known = {*files_by_stem(self.root, self.image_folder), *files_by_stem(self.root, self.mask_folder)}
            lists = {which: read_list(self.root / f"{which}.txt", known, faults) for which in ("train", "val")}
            shared = sorted({*lists["train"]} & {*lists["val"]})
            if faults is not None:
                both = "is in train.txt and in val.txt"
                faults += [Fault(str(self.root), name, both, LEAK, kind="name") for name in shared]
                neither = "is in neither train.txt nor val.txt, and let be"
                left = sorted(known - {*lists["train"], *lists["val"]})
                faults += [Fault(str(self.root), shown(name), neither, level="note", kind="name") for name in left]
            elif shared:
                raise DataError(
                    f"{self.root}: {len(shared)} names are in train.txt and in val.txt: {listed(shared)}; {LEAK}"
                )
            return find_pairs(self.root, self.image_folder, self.mask_folder, lists[split], faults)
        pairs = find_pairs(self.root, self.image_folder, self.mask_folder, None, faults)
        choose = "name the images in train.txt and val.txt"
        return drawn(pairs, split, self.val_fraction, self.seed, (self.root, choose))

    def _both(self, train: str, val: str) -> bool:
        there = [name for name in (train, val) if (self.root / name).exists()]
        if len(there) == 1:
            missing = val if there == [train] else train
            others = sorted(
                path.name for path in self.root.iterdir() if path.stem.lower() in ALIKE and path.name != there[0]
            )
            found = f"; it has {listed(others)} too: rename what is meant to {missing}" if others else ""
            raise DataError(f"{self.root}: has {there[0]} but no {missing}; expected both or neither{found}")
        return len(there) == 2
