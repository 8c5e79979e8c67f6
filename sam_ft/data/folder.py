"""A folder of images and a folder of masks."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.objects import KINDS, count_objects, instances, read_ids
from sam_ft.data.pairing import SHOWN, Pair, files_by_stem, find_pairs, listed, read_list
from sam_ft.data.reading import read_image, read_size
from sam_ft.errors import ConfigError, DataError
from sam_ft.seeds import seed_of
from sam_ft.types import Sample, Size

log = logging.getLogger("sam_ft")


class Folder:
    """Images and masks of the same names, split into "train" and "val".

    The split is, in this order: the sub-folders train/ and val/, each with its own image and mask folder; the lists
    train.txt and val.txt; or a share of the names, drawn by a seeded hash of each, so that adding images moves no
    other one. With lists, files that neither names are let be.

    root: `~` is the home folder · image_folder, mask_folder: below root, or below root/train and root/val
    objects: "whole": a binary mask is one object; "components": each connected part of at least `min_area` pixels;
        "instances": each integer id but 0
    """

    def __init__(
        self,
        root: str | Path,
        image_folder: str = "images",
        mask_folder: str = "masks",
        objects: str = "whole",
        min_area: int = 16,
        val_fraction: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.root = Path(root).expanduser()
        self.image_folder = image_folder
        self.mask_folder = mask_folder
        self.objects = objects
        self.min_area = min_area
        self.val_fraction = val_fraction
        self.seed = seed
        if objects not in KINDS:
            raise ConfigError(f"data.objects={objects} is not known; expected one of {', '.join(KINDS)}")
        if not 0 < val_fraction < 1:
            raise ConfigError(f"data.val_fraction={val_fraction}; expected a share between 0 and 1, such as 0.2")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the folder that holds {image_folder}/")

    def split(self, name: str) -> "FolderSplit":
        """The images of "train" or "val".

        Raises: DataError when files do not pair up, or a split is missing or empty.
        """
        if name not in ("train", "val"):
            raise ConfigError(f"the split {name} is not known; expected train or val")
        return FolderSplit(self._pairs(name), self.objects, self.min_area)

    def _pairs(self, split: str) -> list[Pair]:
        if self._both("train", "val"):
            return find_pairs(self.root / split, self.image_folder, self.mask_folder)
        if self._both("train.txt", "val.txt"):
            known = {*files_by_stem(self.root, self.image_folder), *files_by_stem(self.root, self.mask_folder)}
            lists = {which: read_list(self.root / f"{which}.txt", known) for which in ("train", "val")}
            if shared := sorted({*lists["train"]} & {*lists["val"]}):
                raise DataError(
                    f"{self.root}: {len(shared)} names are in train.txt and in val.txt: {listed(shared)}; "
                    "a score on images that were trained on says nothing, so keep each in one list"
                )
            return find_pairs(self.root, self.image_folder, self.mask_folder, only=lists[split])
        pairs = find_pairs(self.root, self.image_folder, self.mask_folder)
        chosen = [pair for pair in pairs if self._is_val(pair.name) == (split == "val")]
        if not chosen or len(chosen) == len(pairs):
            side = split if not chosen else {"train": "val", "val": "train"}[split]
            raise DataError(
                f"{self.root}: data.val_fraction={self.val_fraction} leaves {side} without any of the {len(pairs)} "
                "images; change data.val_fraction or data.seed, or name the images in train.txt and val.txt"
            )
        return chosen

    def _both(self, train: str, val: str) -> bool:
        there = [name for name in (train, val) if (self.root / name).exists()]
        if len(there) == 1:
            missing = val if there == [train] else train
            raise DataError(f"{self.root}: has {there[0]} but no {missing}; expected both or neither")
        return len(there) == 2

    def _is_val(self, name: str) -> bool:
        return seed_of(self.seed, name) < self.val_fraction * 2**63


class FolderSplit:
    """The samples of one split: files are read when they are asked for, every time.

    names: one per sample, the stem of its files
    """

    def __init__(self, pairs: list[Pair], objects: str = "whole", min_area: int = 16) -> None:
        self.pairs = pairs
        self.objects = objects
        self.min_area = min_area
        self.names = [pair.name for pair in pairs]
        self.classes: dict[int, str] = {}
        self._lossy_is_told = False

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """The sample as it is on disk; one without objects has masks of (0, H, W).

        Raises: DataError when a file cannot be read, or the mask is of another size or kind.
        """
        image = read_image(self.pairs[index].image)
        size = (image.shape[0], image.shape[1])
        return self._sample(index, torch.from_numpy(image).permute(2, 0, 1).contiguous(), size)

    def annotations(self, index: int) -> Sample:
        """The same sample without its pixels; the image is not decoded."""
        return self._sample(index, torch.zeros(3, 0, 0, dtype=torch.uint8), read_size(self.pairs[index].image))

    def _sample(self, index: int, image: Tensor, size: Size) -> Sample:
        pair = self.pairs[index]
        ids, lossy = self._read_ids(pair, size)
        masks, labels = instances(ids)
        if lossy:  # without a survey this comes once per process, so once per worker, and cannot count
            self._tell_lossy(f"{pair.mask} is lossy")
        return Sample(
            image=image,
            masks=torch.from_numpy(masks),
            labels=torch.from_numpy(labels),
            name=pair.name,
            original_size=size,
            object_ids=torch.arange(len(masks)),
        )

    def survey(self) -> "Survey":
        """Reads every mask and every image's size once: to count, and to find now what would stop training later.

        Warns once when masks are lossy. Raises: DataError that lists all files that cannot be used.
        """
        with ThreadPoolExecutor(8) as pool:  # decoding lets go of the interpreter's lock
            bar = tqdm(pool.map(self._look_at, self.pairs), "reading masks", len(self), leave=False, disable=None)
            found = list(zip(self.pairs, bar, strict=True))
        faults = [str(fault) for _, (_, _, fault) in found if fault is not None]
        objects = sum(count for _, (count, _, _) in found)
        empty = [pair.name for pair, (count, _, _) in found if not count]
        lossy = [pair.mask for pair, (_, was_lossy, _) in found if was_lossy]
        if faults:
            more = f"\n... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            raise DataError("\n".join(faults[:SHOWN]) + more)
        if lossy:
            self._tell_lossy(f"{len(lossy)} of {len(self)} masks are lossy, first {lossy[0]}")
        return Survey(len(self), objects, empty, len(lossy))

    def _look_at(self, pair: Pair) -> tuple[int, bool, DataError | None]:
        """The number of objects, whether the mask is lossy, and what is wrong with it."""
        try:
            ids, lossy = self._read_ids(pair, read_size(pair.image))
        except DataError as error:
            return 0, False, error
        return count_objects(ids), lossy, None

    def _read_ids(self, pair: Pair, size: Size) -> tuple[NDArray[np.integer], bool]:
        ids, lossy = read_ids(pair.mask, self.objects, self.min_area)
        if ids.shape != size:
            raise DataError(_size_message(pair, ids.shape, size))
        return ids, lossy

    def _tell_lossy(self, which: str) -> None:
        if not self._lossy_is_told:
            log.warning("%s: grey edges, as JPEG leaves them; they are cut at half of the range (value > 127)", which)
        self._lossy_is_told = True


@dataclass(frozen=True)
class Survey:
    """What a split holds: empty lists the images without any object, lossy counts the masks cut at half."""

    images: int
    objects: int
    empty: list[str]
    lossy: int


def _size_message(pair: Pair, mask: tuple[int, ...], image: Size) -> str:
    (h, w), (height, width) = mask, image
    message = f"{pair.mask}: the mask is {w} x {h} pixels but its image {pair.image.name} is {width} x {height}"
    if (h, w) == (width, height):
        return message + "; it looks turned by 90 degrees: check the EXIF orientation, or transpose the mask"
    return message + "; resave the mask at the image's size, with nearest-neighbour interpolation"
