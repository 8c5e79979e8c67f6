"""The samples of image files and mask files."""

import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.io.decoding import read_header
from sam_ft.data.io.images import INTENSITIES, read_image, read_size
from sam_ft.data.io.objects import Objects, ask_for_classes, count_components, read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.issues import Fault, fault_of, said
from sam_ft.data.sources.pairing import Item
from sam_ft.data.sources.survey import Survey
from sam_ft.types import Sample, Size
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")

LOSSY = "gray edges, as JPEG leaves them; they are cut at half of the range (value > 127)"
COUNTED = 100  # images whose masks' parts a survey counts: it takes a third of the time of reading them


class FileSplit:
    """The samples of one split: files are read when they are asked for, every time.

    classes: the names of the labels; None where the rules' own table names them, or labels are numbers of objects
    names: one per sample

    Raises: ConfigError when the objects are to be classes, and nothing names them.
    """

    def __init__(self, items: Sequence[Item], rules: Rules, classes: dict[int, str] | None = None) -> None:
        if rules.objects == "classes" and rules.classes is None:
            raise ask_for_classes([mask for item in items for mask in item.masks], rules)
        self.items = list(items)
        self.rules = rules
        self.names = [item.name for item in items]
        table = dict(zip(rules.table.labels, rules.table.names, strict=True)) if rules.classes else {}
        self.classes: dict[int, str] = table if classes is None else classes
        self._told: set[str] = set()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """The sample as it is on disk; one without objects has masks of (0, H, W).

        Raises: DataError when a file cannot be read, or a mask is of another size or kind.
        """
        image = read_image(self.items[index].image, self.rules.intensity, self.rules.page)
        size = (image.shape[0], image.shape[1])
        return self._sample(index, _tensor(image), self._read(self.items[index], size), size)

    def annotations(self, index: int) -> Sample:
        """The same sample without its pixels; the image is not decoded."""
        size = read_size(self.items[index].image, self.rules.page)
        parts = self._read(self.items[index], size)
        return self._sample(index, torch.zeros(3, 0, 0, dtype=torch.uint8), parts, size)

    def examine(self, index: int) -> tuple[Sample | None, list[Fault]]:
        """The sample, or None where it cannot be used, and all that there is to say about its files.

        Image and masks are decoded in full, each of them even where another one is faulty.
        """
        item, faults, image, parts = self.items[index], [], None, []
        try:
            image = read_image(item.image, self.rules.intensity, self.rules.page)
            if (dtype := read_header(item.image, self.rules.page).dtype) != np.uint8:
                rule = f"{INTENSITIES[self.rules.intensity]} (data.intensity={self.rules.intensity})"
                faults.append(_remark(item.image, "note", f"has values of {dtype}", rule))
        except DataError as error:
            faults.append(fault_of(error, [item.image]))
        for path in item.masks:
            try:
                parts.append(read_objects(path, self.rules))
                if image is not None:
                    _check_size(path, item.image, parts[-1], (image.shape[0], image.shape[1]))
                if parts[-1].lossy:
                    faults.append(_remark(path, "warning", "is lossy", f"{LOSSY}; better save masks as PNG"))
            except DataError as error:
                faults.append(fault_of(error, [path]))
        self._told.add("lossy")
        if image is None or any(fault.level == "error" for fault in faults):
            return None, faults
        return self._sample(index, _tensor(image), parts, (image.shape[0], image.shape[1])), faults

    def tolerates(self, bad: int) -> bool:
        """Whether so many samples that cannot be used are to be left out."""
        return self.rules.on_bad == "skip" and bad <= max(1, len(self) // 100)

    def without(self, names: Collection[str]) -> "FileSplit":
        """The same split without some of its samples."""
        left = FileSplit([item for item in self.items if item.name not in names], self.rules, self.classes)
        left._told = self._told
        return left

    def survey(self) -> Survey:
        """Reads every mask and every image's header once: to count, and to find now what would stop training later.

        Images are decoded too where something in their pixels may be wrong (floats), and all of them with
        on_bad="skip": up to 1 % of the images, and at least one, may then be bad, and are named in the log.

        Warns once when masks are lossy, and says once how images of more than 8 bits are scaled. Raises: DataError
        that lists all files that cannot be used.
        """
        every = -(-len(self) // COUNTED)
        apart = [self.rules.objects == "whole" and place % every == 0 for place in range(len(self))]
        with ThreadPoolExecutor(8) as pool:  # decoding lets go of the interpreter's lock
            look = pool.map(self._look_at, self.items, apart)
            looks = list(tqdm(look, "reading masks", len(self), leave=False, disable=None))
        good = [(item, look) for item, look in zip(self.items, looks, strict=True) if look.fault is None]
        bad = [item.name for item, look in zip(self.items, looks, strict=True) if look.fault is not None]
        self._judge([look.fault for look in looks if look.fault is not None])
        lossy = [mask for _, look in good for mask in look.lossy]
        if lossy:
            masks = sum(len(item.masks) for item, _ in good)
            self._tell_lossy(f"{len(lossy)} of {masks} masks are lossy, first {lossy[0]}")
        if deep := [(item.image, look.dtype) for item, look in good if look.dtype != np.uint8]:
            log.info(
                "%d of %d images have values other than unsigned 8 bits, first %s (%s): %s (data.intensity=%s)",
                *(len(deep), len(good), *deep[0], INTENSITIES[self.rules.intensity], self.rules.intensity),
            )
        parts = [count for _, look in good for count in look.parts if count]
        return Survey(
            images=len(good),
            objects=sum(look.objects for _, look in good),
            empty=[item.name for item, look in good if not look.objects],
            lossy=len(lossy),
            bad=bad,
            parts=sum(parts) / len(parts) if parts else 1.0,
        )

    def _look_at(self, item: Item, apart: bool) -> "_Look":
        """apart: whether the separate parts of its masks are counted"""
        try:
            header = read_header(item.image, self.rules.page)
            if self.rules.on_bad == "skip" or header.dtype.kind == "f":
                read_image(item.image, self.rules.intensity, self.rules.page)
            parts = self._read(item, header.size)
        except DataError as error:
            return _Look(fault=fault_of(error, [item.image, *item.masks]))
        lossy = [mask for mask, part in zip(item.masks, parts, strict=True) if part.lossy]
        counts = [count_components(part.ids > 0, self.rules.min_area) for part in parts] if apart else []
        return _Look(sum(part.count for part in parts), lossy, header.dtype, counts)

    def _judge(self, faults: list[Fault]) -> None:
        """Stops, or says what is left out."""
        if not faults:
            return
        text = said(faults)
        if self.rules.on_bad == "stop":
            raise DataError(text)
        if not self.tolerates(len(faults)):
            raise DataError(
                f"{text}\n{len(faults)} of {len(self)} images cannot be used: more than the 1 % (and more than one) "
                "that data.on_bad=skip leaves out"
            )
        log.warning("%d of %d images are left out (data.on_bad=skip):\n%s", len(faults), len(self), text)

    def _sample(self, index: int, image: Tensor, parts: list[Objects], size: Size) -> Sample:
        item = self.items[index]
        cut = [part.cut() for part in parts]
        masks = np.concatenate([own for own, _ in cut])
        labels = np.concatenate([own for _, own in cut])
        if item.labels:
            labels = np.repeat(item.labels, [len(own) for own, _ in cut])
        elif len(parts) > 1 and self.rules.objects != "classes":  # each file numbers its own objects
            labels = np.arange(1, len(masks) + 1)
        for path, part in zip(item.masks, parts, strict=True):
            if part.lossy:  # without a survey this comes once per process, so once per worker, and cannot count
                self._tell_lossy(f"{path} is lossy")
        return Sample(
            image=image,
            masks=torch.from_numpy(masks),
            labels=torch.from_numpy(labels),
            name=item.name,
            original_size=size,
            object_index=torch.arange(len(masks)),
            ignore=_ignored(parts, masks),
        )

    def _read(self, item: Item, size: Size) -> list[Objects]:
        parts = [read_objects(mask, self.rules) for mask in item.masks]
        for mask, part in zip(item.masks, parts, strict=True):
            _check_size(mask, item.image, part, size)
        return parts

    def _tell_lossy(self, which: str) -> None:
        if "lossy" not in self._told:
            log.warning("%s: %s", which, LOSSY)
        self._told.add("lossy")


@dataclass(frozen=True)
class _Look:
    """What a survey saw of one sample; lossy: those of its masks that are; parts: of each mask, if counted."""

    objects: int = 0
    lossy: Sequence[Path] = ()
    dtype: np.dtype | None = None
    parts: Sequence[int] = ()
    fault: Fault | None = None


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


def _remark(path: Path, level: str, what: str, advice: str) -> Fault:
    return Fault(str(path.parent), path.name, what, advice, level)


def _ignored(parts: list[Objects], masks: np.ndarray) -> Tensor | None:
    """What any of the mask files says is to be ignored, as far as it is no object in another one."""
    given = [part.ignored for part in parts if part.ignored is not None]
    ignored = np.logical_or.reduce(given) & ~masks.any(0) if given else np.zeros(1, bool)
    return torch.from_numpy(ignored) if ignored.any() else None


def _check_size(path: Path, of: Path, mask: Objects, image: Size) -> None:
    """Raises: DataError when a mask is not of its image's size."""
    (h, w), (height, width) = mask.ids.shape, image
    if (h, w) == (height, width):
        return
    message = f"{path}: the mask is {w} x {h} pixels but its image {of.name} is {width} x {height}"
    if (h, w) == (width, height):
        raise DataError(message + "; it looks turned by 90 degrees: check the EXIF orientation, or transpose the mask")
    raise DataError(message + "; resave the mask at the image's size, with nearest-neighbor interpolation")
