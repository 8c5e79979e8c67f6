"""A folder of images and a folder of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.file_split import FileSplit
from sam_ft.data.sources.folder_files import SPLIT_WORD
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.layout import Layout
from sam_ft.data.sources.leaks import LEAK_ADVICE
from sam_ft.data.sources.name_lists import names_in_lists, read_list
from sam_ft.data.sources.names import join_names, printable
from sam_ft.data.sources.pairing import SampleFiles, check_val_fraction, find_pairs, read_layout, split_by_hash
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.files import expand_user
from sam_ft.utils.tiles import check_tile

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}  # those that are read


def spelled(folder: Path, name: str, suffix: str = "") -> str | None:
    """The name of a split as a folder or list has it: train, Train or TRAIN; None where it is not there."""
    spellings = (own + suffix for own in (name, name.capitalize(), name.upper()))
    return next((own for own in spellings if (folder / own).exists()), None)


class Folder:
    """Images and masks of corresponding names, split into "train" and "val".

    The split is the first of these: the sub-folders train/ and val/, each with its own image and mask folder, or in the
    image folder and in the mask folder; the lists train.txt and val.txt; a fraction by a seeded hash of each name, so
    new images move no others. "valid" and "validation" are val, and "training" is train. Files in neither list are not
    used.

    root: `~` is the home folder · image_folder, mask_folder: below root, or below root/train and root/val
    image_prefix ... recursive: see `Layout`
    objects ... invert: see `Rules` · tile: see `splits.tile_splits`
    """

    def __init__(
        self,
        root: str | Path,
        image_folder: str = "images",
        mask_folder: str = "masks",
        image_prefix: str = "",
        image_suffix: str = "",
        mask_prefix: str = "",
        mask_suffix: str = "",
        pair_by: str = "name",
        recursive: bool = False,
        objects: str = "whole",
        classes: Mapping[str, int | Sequence[int]] | None = None,
        components_per_class: bool = False,
        min_area: int = 16,
        ignore_index: int | Sequence[int | Sequence[int]] | None = None,
        background: int | Sequence[int | Sequence[int]] | None = None,
        other: str = "error",
        intensity: str = "percentile",
        page: int | None = None,
        projection: str | None = None,
        channels: Sequence[int] | None = None,
        on_bad: str = "stop",
        invert: bool = False,
        val_fraction: float = 0.2,
        seed: int = 0,
        tile: int | str | None = None,
    ) -> None:
        self.root = expand_user(root)
        affixes = (image_prefix, image_suffix, mask_prefix, mask_suffix)
        self.layout = Layout(image_folder, mask_folder, *affixes, pair_by, recursive)
        self.rules = Rules(
            objects=objects,
            classes=classes,
            components_per_class=components_per_class,
            min_area=min_area,
            ignore_index=ignore_index,
            background=background,
            other=other,
            intensity=intensity,
            page=page,
            projection=projection,
            channels=channels,
            on_bad=on_bad,
            invert=invert,
        )
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
        if folders := self._both(self.root):
            return find_pairs(self.root / folders[split], self.layout, None, issues)
        below = [self.root / self.layout.image_folder, self.root / self.layout.mask_folder]
        if not self.layout.one_folder and all(map(Path.is_dir, below)) and (folders := self._both(below[0])):
            of_masks = self._both(below[1]) or folders  # Train of the images may be train of the masks
            own = [f"{self.layout.image_folder}/{folders[split]}", f"{self.layout.mask_folder}/{of_masks[split]}"]
            layout = replace(self.layout, image_folder=own[0], mask_folder=own[1])
            return find_pairs(self.root, layout, None, issues)
        if lists := self._both(self.root, ".txt"):
            return find_pairs(self.root, self.layout, self._names_in_list(lists, split, issues), issues)
        # All pairs, of both splits; the hash chooses.
        pairs = find_pairs(self.root, self.layout, None, issues)
        choose = "name the images in train.txt and val.txt"
        return split_by_hash(pairs, split, self.val_fraction, self.seed, (self.root, choose))

    def _names_in_list(self, files: Mapping[str, str], split: str, issues: list[Issue] | None) -> list[str]:
        """The names of a split. Raises: DataError for unknown names, and for names in both lists."""
        known = names_in_lists(read_layout(self.root, self.layout))
        lists = {which: read_list(self.root / file, known, issues) for which, file in files.items()}
        shared = sorted({*lists["train"]} & {*lists["val"]})
        if issues is not None:
            both = "is in train.txt and in val.txt"
            issues += [Issue(str(self.root), name, both, LEAK_ADVICE, kind="name") for name in shared]
            neither = "is in neither train.txt nor val.txt, and is not used"
            left = sorted({*known.values()} - {*lists["train"], *lists["val"]})
            issues += [Issue(str(self.root), printable(name), neither, level="note", kind="name") for name in left]
        elif shared:
            raise DataError(
                f"{self.root}: {len(shared)} names are in train.txt and in val.txt: {join_names(shared)}; {LEAK_ADVICE}"
            )
        return lists[split]

    def _both(self, folder: Path, suffix: str = "") -> dict[str, str]:
        """{split: its folder or list}; empty where there is none. Raises: DataError when only one exists."""
        existing = {
            split: [own for name in names if (own := spelled(folder, name, suffix)) is not None]
            for split, names in SPLITS.items()
        }
        if several := next((names for names in existing.values() if len(names) > 1), None):
            raise DataError(f"{folder}: has {' and '.join(several)}, which mean the same split; keep one of them")
        found = {split: names[0] for split, names in existing.items() if names}
        # Otherwise a mistyped name would fall through to the split by hash.
        if len(found) == 1:
            ((split, own),) = found.items()
            missing = {"train": "val", "val": "train"}[split] + suffix
            same_kind = (path for path in folder.iterdir() if path.suffix == suffix and path.name != own)
            others = sorted(path.name for path in same_kind if SPLIT_WORD.search(path.name))
            hint = (
                f"; it also has {join_names(others)}: rename the one that holds this split to {missing}"
                if others
                else ""
            )
            raise DataError(f"{folder}: has {own} but no {missing}; expected both or neither{hint}")
        return found
