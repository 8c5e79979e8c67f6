"""Images with COCO instance annotations: for each split a JSON file and a folder of images."""

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.io.decoding import SIDEWAYS, Header, read_header
from sam_ft.data.io.images import INTENSITIES, read_image, read_size
from sam_ft.data.io.rules import check_min_area
from sam_ft.data.sources.coco_json import read_coco
from sam_ft.data.sources.issues import Fault, fault_of, listed, said
from sam_ft.data.sources.survey import Survey
from sam_ft.types import Sample, Size
from sam_ft.utils.errors import ConfigError, DataError

log = logging.getLogger("sam_ft")

MIRRORED_OR_UPSIDE_DOWN = (2, 3, 4)  # EXIF orientations that leave the size as it is


class Coco:
    """Images with COCO annotations, split into "train" and "val".

    root: `~` is the home folder · train, val: JSON files below root · train_images, val_images: folders below root
    categories: names of those whose annotations are objects, None for all; the others are background
    min_area: pixels of a mask; smaller objects are ignored like crowds, being neither object nor background
    intensity: how images of more than 8 bits are scaled, see `reading.INTENSITIES`
    on_bad: what to do with annotations and images that cannot be used: "stop", or "skip" them with a warning as long
        as they are at most 1 % (or one) of all
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
    ) -> None:
        self.root = Path(root).expanduser()
        self.files = {"train": (train, train_images), "val": (val, val_images)}
        self.categories = categories
        self.min_area = min_area
        self.intensity = intensity
        self.on_bad = on_bad
        if intensity not in INTENSITIES:
            raise ConfigError(f"data.intensity={intensity} is not known; expected one of {', '.join(INTENSITIES)}")
        if on_bad not in ("stop", "skip"):
            raise ConfigError(f"data.on_bad={on_bad} is not known; expected stop or skip")
        check_min_area(min_area)
        if isinstance(categories, str) or (categories is not None and not categories):
            raise ConfigError(f"data.categories={categories}; expected a list of names such as [person,dog], or null")
        if not self.root.is_dir():
            raise DataError(f"{self.root}: is not a folder; set data.root to the folder that holds {train}")

    def split(self, name: str) -> "CocoSplit":
        """The images of "train" or "val".

        Raises: DataError when its file is no COCO instance JSON or lacks a category; what is wrong with single images
            and annotations is said by `CocoSplit.survey`.
        """
        if name not in self.files:
            raise ConfigError(f"the split {name} is not known; expected train or val")
        file, images = self.files[name]
        folder = self.root / images
        if not folder.is_dir():
            raise DataError(f"{folder}: is not a folder; name that of the images with data.{name}_images")
        return CocoSplit(self.root / file, folder, self.categories, self.min_area, self.intensity, self.on_bad)

    def sound_split(self, name: str, faults: list[Fault]) -> "CocoSplit":
        """The same; `faults` takes what cannot be used of its file."""
        split = self.split(name)
        faults += split.file_faults()
        return split


class CocoSplit:
    """The samples of one split: images are read and masks decoded when they are asked for, every time.

    All that hangs on the JSON and on which images are there is decided here, so it is the same on every process;
    forked workers share it, since it lies in a few arrays.

    names: one per image: the stem of its file where that is unique, else the path below the folder
    """

    def __init__(
        self,
        file: Path,
        folder: Path,
        categories: Sequence[str] | None = None,
        min_area: int = 0,
        intensity: str = "percentile",
        on_bad: str = "stop",
    ) -> None:
        self.file = file
        self.folder = folder
        self.intensity = intensity
        self.content = read_coco(file, folder, categories, min_area)
        self.names = unique_names(self.content.files)
        self.classes = self.content.classes
        self._faults = self._refused(on_bad)
        if not self.names and not self._faults:
            raise DataError(f"{file}: lists no images; expected at least one")
        if self.content.blank:
            log.warning(
                "%s: %d annotations cover no pixel and are left out: %s",
                *(file, len(self.content.blank), listed(self.content.blank)),
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """The sample as it is on disk; one without objects has masks of (0, H, W).

        Raises: DataError when there are faults that are not skipped, or the image cannot be read or has another size.
        """
        image = read_image(self._path(index), self.intensity)
        size = (image.shape[0], image.shape[1])
        self._stop_if_faulty()
        return self._sample(index, torch.from_numpy(image).permute(2, 0, 1).contiguous(), size)

    def annotations(self, index: int) -> Sample:
        """The same sample without its pixels; the image is not decoded."""
        self._stop_if_faulty()
        return self._sample(index, torch.zeros(3, 0, 0, dtype=torch.uint8), read_size(self._path(index)))

    def examine(self, index: int) -> tuple[Sample | None, list[Fault]]:
        """The sample with its image decoded in full, or None where it cannot be used, and what there is to say of it.

        What cannot be used of the JSON is said by `file_faults`.
        """
        path = self._path(index)
        try:
            image = read_image(path, self.intensity)
            size = (image.shape[0], image.shape[1])
            sample = self._sample(index, torch.from_numpy(image).permute(2, 0, 1).contiguous(), size)
        except DataError as error:
            return None, [fault_of(error, [path])]
        if not _is_turned_unseen(read_header(path)):
            return sample, []
        what = "is turned or mirrored by its EXIF orientation, and its size does not tell whether its annotations are"
        advice = "look at the pictures; if they show them apart, remove the tag"
        return sample, [Fault(str(path.parent), path.name, what, advice, "warning")]

    def file_faults(self) -> list[Fault]:
        """All that cannot be used of the JSON; as warnings where that is left out."""
        level = "error" if self._faults else "warning"
        advice = (
            "mend them, or leave out up to 1 % of them (or one) with data.on_bad=skip" if self._faults else "left out"
        )
        faults = [
            Fault(str(self.file), name, f"{kind} that {what}; {advice}", "", level, kind.removesuffix("s"))
            for (kind, what), which in self.content.faults.items()
            for name in which
        ]
        blank = "annotations that cover no pixel"
        return faults + [
            Fault(str(self.file), name, blank, "left out", "warning", "annotation") for name in self.content.blank
        ]

    def _stop_if_faulty(self) -> None:
        if self._faults:
            raise DataError("\n".join(self._faults))

    def _sample(self, index: int, image: Tensor, size: Size) -> Sample:
        self._check_size(index, size)
        content = self.content
        own = np.arange(content.starts[index], content.starts[index + 1])
        kept = own[content.objects[own]]
        masks = torch.from_numpy(self._decode(kept, size))
        ignore = torch.from_numpy(self._decode(own[~content.objects[own]], size)).any(0) & ~masks.any(0)
        return Sample(
            image=image,
            masks=masks,
            labels=torch.from_numpy(content.labels[kept]),
            name=self.names[index],
            original_size=size,
            object_index=torch.arange(len(kept)),
            ignore=ignore if bool(ignore.any()) else None,
        )

    def _decode(self, which: np.ndarray, size: Size) -> np.ndarray:
        """(N, H, W) bool: the masks at these N places."""
        if not len(which):
            return np.zeros((0, *size), bool)
        ends, runs = self.content.ends, self.content.runs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # numpy 2 about pycocotools 2.0.11
            masks = rle.decode([{"size": size, "counts": runs[ends[a] : ends[a + 1]]} for a in which])
        return np.ascontiguousarray(masks.transpose(2, 0, 1)).view(bool)  # pycocotools runs down the columns

    def survey(self) -> Survey:
        """Reads every image's size once, to find now what would stop training later; the masks are counted already.

        Warns of images whose orientation their size does not show. Raises: DataError that lists all faults.
        """
        with ThreadPoolExecutor(8) as pool:
            look = pool.map(self._look_at, range(len(self)))
            found = list(tqdm(look, "reading image sizes", len(self), leave=False, disable=None))
        wrong = [fault for fault, _ in found if fault is not None]
        if self._faults or wrong:
            raise DataError("\n".join([*self._faults, *([said(wrong)] if wrong else [])]))
        if turned := [name for name, (_, is_turned) in zip(self.names, found, strict=True) if is_turned]:
            log.warning(
                "%s: %d images are turned or mirrored by their EXIF orientation, and their size does not tell whether "
                "the annotations are too; if the pictures of the run show them apart, remove the tag: %s",
                *(self.folder, len(turned), listed(turned)),
            )
        before = np.concatenate([[0], np.cumsum(self.content.objects)])  # objects before each annotation
        objects = np.diff(before[self.content.starts])
        empty = [name for name, count in zip(self.names, objects, strict=True) if not count]
        return Survey(len(self), int(objects.sum()), empty, lossy=0)

    def _look_at(self, index: int) -> tuple[Fault | None, bool]:
        """What is wrong with an image, and whether it is turned in a way that its size does not show."""
        try:
            header = read_header(self._path(index))
            self._check_size(index, header.size)
        except DataError as error:
            return fault_of(error, [self._path(index)]), False
        return None, _is_turned_unseen(header)

    def _check_size(self, index: int, size: Size) -> None:
        """Raises: DataError when the image is not of the size that the file gives for it."""
        (height, width), (h, w), path = self.content.sizes[index], size, self._path(index)
        if (height, width) == (h, w):
            return
        message = f"{path}: the image is {w} x {h} pixels but {self.file.name} says {width} x {height}"
        if (height, width) == (w, h) and read_header(path).orientation in SIDEWAYS:
            raise DataError(
                f"{message}, which is its size without its EXIF orientation: it was annotated as it is stored; remove "
                "the orientation tag from the image, which is otherwise turned upright"
            )
        raise DataError(f"{message}; use the images that were annotated, or scale the annotations with them")

    def _path(self, index: int) -> Path:
        return self.folder / self.content.files[index]

    def _refused(self, on_bad: str) -> list[str]:
        """The lines of an error about what cannot be used; none if nothing is wrong, or little that is skipped."""
        faults, totals = self.content.faults, self.content.totals
        if not faults:
            return []
        counts = {kind: sum(len(which) for (of, _), which in faults.items() if of == kind) for kind in totals}
        found = " and ".join(f"{counts[kind]} of {totals[kind]} {kind}" for kind in totals if counts[kind])
        lines = [f"  {kind} that {what}, {len(which)}: {listed(which)}" for (kind, what), which in faults.items()]
        if on_bad == "stop":
            return [f"{self.file}: {found} cannot be used; mend them, or leave them out with data.on_bad=skip", *lines]
        if any(counts[kind] > max(1, totals[kind] / 100) for kind in totals):
            return [
                f"{self.file}: {found} cannot be used, and data.on_bad=skip leaves out 1 % (or one) at most; mend them",
                *lines,
            ]
        log.warning("%s", "\n".join([f"{self.file}: leaves out {found}", *lines]))
        return []


def _is_turned_unseen(header: Header) -> bool:
    """Whether an image is turned upright in a way that its size does not show."""
    square = header.size[0] == header.size[1]
    return header.orientation in MIRRORED_OR_UPSIDE_DOWN or (square and header.orientation in SIDEWAYS)


def unique_names(files: Sequence[str]) -> list[str]:
    """A name for each of several different files: the stem, or else the path without suffix, or else all of it."""
    choices = []
    for file in files:
        path = PurePosixPath(file)
        choices.append(list(dict.fromkeys((path.stem, str(path.with_suffix("")), file))))
    counts = Counter(choice for several in choices for choice in several)
    return [next((c for c in several if counts[c] == 1), file) for several, file in zip(choices, files, strict=True)]
