"""The samples of image files and mask files."""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.appearance import Remark
from sam_ft.data.io.decoding import read_header
from sam_ft.data.io.fingerprint import fingerprint
from sam_ft.data.io.id_masks import IdLayers
from sam_ft.data.io.images import image_tensor, read_image_with_missing, read_missing, read_size
from sam_ft.data.io.intensities import INTENSITIES
from sam_ft.data.io.lossy import LOSSY
from sam_ft.data.io.mask_values import IgnoreMask
from sam_ft.data.io.missing_classes import missing_classes_error
from sam_ft.data.io.nodata import extreme_note, missing_note
from sam_ft.data.io.objects import ObjectMap, read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.file_survey import (
    can_skip,
    check_mask_size,
    count_files,
    log_other_dtypes,
    read_masks,
    refuse_own_image,
    stop_or_skip,
)
from sam_ft.data.sources.issues import Issue, issue_from
from sam_ft.data.sources.mask_facts import MaskFacts, counts_parts, find_facts, mask_hints
from sam_ft.data.sources.pairing import SampleFiles
from sam_ft.data.sources.survey import Hint, Survey
from sam_ft.types import Sample, Size
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")


class FileSplit:
    """Samples of one split; files are read at each access.

    classes: names of the labels; None where the rules have them, or labels are ids of objects
    names: one per sample

    Raises: ConfigError when the objects are classes without names.
    """

    def __init__(self, items: Sequence[SampleFiles], rules: Rules, classes: dict[int, str] | None = None) -> None:
        if rules.objects == "classes" and rules.classes is None:
            raise missing_classes_error([mask for item in items for mask in item.masks], rules)
        self.items = list(items)
        self.rules = rules
        self.names = [item.name for item in items]
        named = dict(zip(rules.class_map.labels, rules.class_map.names, strict=True)) if rules.classes else {}
        self.classes: dict[int, str] = named if classes is None else classes
        self._logged: set[Remark] = set()  # shared by all splits that `without` makes of this one

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        """The sample in the original frame; without objects its masks are (0, H, W).

        Raises: DataError when a file cannot be read, or a mask is of another size or kind.
        """
        item = self.items[index]
        image, missing = read_image_with_missing(item.image, **self.rules.reading)
        size = (image.shape[0], image.shape[1])
        objects = self._collect(read_masks(item, self.rules, size))
        return self._sample(item, image_tensor(image), objects, size, missing)

    def annotations(self, index: int) -> Sample:
        """The same sample without its pixels; the image is not decoded."""
        item = self.items[index]
        size = read_size(item.image, self.rules.slices, self.rules.channels)
        objects = self._collect(read_masks(item, self.rules, size))
        missing = read_missing(item.image, self.rules.slices, self.rules.channels)
        return self._sample(item, torch.zeros(3, 0, 0, dtype=torch.uint8), objects, size, missing)

    def size(self, index: int) -> Size:
        """(H, W) of an image, by its header."""
        return read_size(self.items[index].image, self.rules.slices, self.rules.channels)

    def fingerprint(self, index: int) -> str | None:
        """Changes whenever the image of a sample may have changed."""
        return fingerprint(self.items[index].image, *self.rules.reading.values())

    def examine(self, index: int) -> tuple[Sample | None, list[Issue], list[MaskFacts]]:
        """Decodes image and masks in full.

        → the sample, or None where it cannot be used; the issues of its files; the facts about its masks
        """
        item, issues, image, missing = self.items[index], [], None, None
        facts: list[MaskFacts] = []
        try:
            image, missing = read_image_with_missing(item.image, **self.rules.reading)
            if (dtype := read_header(item.image, self.rules.slices, self.rules.channels).dtype) != np.uint8:
                rule = f"{INTENSITIES[self.rules.intensity]} (data.intensity={self.rules.intensity})"
                issues.append(_issue(item.image, "note", f"has values of {dtype}", rule))
            if missing is not None:
                issues.append(_issue(item.image, "note", *missing_note(missing)))
            elif extreme := extreme_note(image, dtype):
                issues.append(_issue(item.image, "warning", *extreme))
        except DataError as error:
            issues.append(issue_from(error, [item.image]))
        size = None if image is None else (image.shape[0], image.shape[1])
        masks = self._valid_masks(index, size, issues, facts)
        if image is None or size is None:  # masks of unknown sizes do not go into one map
            for _ in masks:  # for their own issues
                pass
            return None, issues, facts
        objects = self._collect(masks)
        if any(issue.level == "error" for issue in issues):
            return None, issues, facts
        return self._sample(item, image_tensor(image), objects, size, missing), issues, facts

    def hints(self, facts: Sequence[Sequence[MaskFacts]]) -> list[Hint]:
        """What to look at, of the masks of each sample."""
        return mask_hints(facts, self.rules)

    def _valid_masks(
        self, index: int, size: Size | None, issues: list[Issue], facts: list[MaskFacts]
    ) -> Iterator[tuple[Path, ObjectMap]]:
        """As `read_masks`, but goes on after each invalid file.

        size: of the image, if known · issues, facts: get those that are found
        """
        item, with_parts = self.items[index], counts_parts(self.rules, index, len(self))
        for path in item.masks:
            try:
                own = read_objects(path, self.rules)
                if size is not None:
                    check_mask_size(path, item.image, own, size)
                refuse_own_image(path, item.image, own)
            except DataError as error:
                issues.append(issue_from(error, [path]))
                continue
            for remark in own.remarks:
                self._logged.add(remark)  # here it is an issue
                issues.append(_issue(path, remark.level, remark.one, remark.meaning))
            facts.append(find_facts(own, self.rules, with_parts))
            yield path, own

    def can_skip(self, bad: int) -> bool:
        """Whether so many bad samples are left out."""
        return can_skip(bad, len(self), self.rules)

    def without(self, names: Collection[str]) -> "FileSplit":
        """The same split without some of its samples."""
        left = FileSplit([item for item in self.items if item.name not in names], self.rules, self.classes)
        left._logged = self._logged
        return left

    def survey(self) -> Survey:
        """Reads every mask and every image's header, to count objects and to find issues before training.

        With on_bad="skip" images are decoded too, and up to 1 % of them (or one) may be bad; a warning names these.
        The scaling of other values than 8 bits is logged once.

        Raises: DataError that lists all files that cannot be used.
        """
        all_counts = count_files(self.items, self.rules)
        # Stops at files that cannot be used, or leaves them out; the counts below are of the others.
        stop_or_skip([counts.issue for counts in all_counts if counts.issue is not None], len(self), self.rules)
        bad = [item.name for item, counts in zip(self.items, all_counts, strict=True) if counts.issue is not None]
        good = [(item, counts) for item, counts in zip(self.items, all_counts, strict=True) if counts.issue is None]
        remarks: dict[Remark, list[Path]] = {}
        for path, remark in (one for _, counts in good for one in counts.remarks):
            remarks.setdefault(remark, []).append(path)
        self._logged.update(remarks)  # as hints
        masks = sum(len(item.masks) for item, _ in good)
        hints = [
            Hint(f"{len(paths)} of {masks} masks {remark.many}, first {paths[0]}", remark.meaning, remark.level)
            for remark, paths in remarks.items()
        ]
        log_other_dtypes(good, self.rules)
        return Survey(
            images=len(good),
            objects=sum(counts.objects for _, counts in good),
            empty=[item.name for item, counts in good if not counts.objects],
            lossy=len(remarks.get(LOSSY, ())),
            bad=bad,
            hints=hints + self.hints([counts.facts for _, counts in good]),
            keys={item.name: counts.keys for item, counts in good},
        )

    def _collect(self, maps: Iterable[tuple[Path, ObjectMap]]) -> "_Objects":
        objects = _Objects()
        for path, own in maps:
            objects.add(own)
            for remark in {*own.remarks} - self._logged:  # only without a survey; once per process or worker
                level = logging.WARNING if remark.level == "warning" else logging.INFO
                log.log(level, "%s %s: %s", path, remark.one, remark.meaning)
                self._logged.add(remark)
        return objects

    def _sample(self, item: SampleFiles, image: Tensor, objects: "_Objects", size: Size, missing: IgnoreMask) -> Sample:
        """missing: pixels of the image that hold no data"""
        masks, labels, ignored = objects.layers.masks(), np.concatenate(objects.labels), objects.ignored
        if missing is not None:
            ignored = missing if ignored is None else ignored | missing
        if item.labels:
            # A label for each mask file → one for each of its objects.
            labels = np.repeat(item.labels, [len(own) for own in objects.labels])
        elif len(item.masks) > 1 and self.rules.objects != "classes":  # each file numbers its own objects
            labels = np.arange(1, len(masks) + 1)
        if ignored is not None:  # an object of another file counts
            ignored = ignored & ~objects.layers.union()
        return Sample(
            image=image,
            masks=masks,
            labels=torch.from_numpy(labels),
            name=item.name,
            size=size,
            object_index=torch.arange(len(masks)),
            ignore=torch.from_numpy(ignored) if ignored is not None and ignored.any() else None,
        )


@dataclass
class _Objects:
    """The objects of all mask files of an image.

    labels: of the objects of each file · ignored: by any file
    """

    layers: IdLayers = field(default_factory=IdLayers)
    labels: list[NDArray[np.int64]] = field(default_factory=list)
    ignored: IgnoreMask = None

    def add(self, own: ObjectMap) -> None:
        self.labels.append(own.labels(self.layers.add(own.ids)))
        if own.ignored is not None:
            self.ignored = own.ignored if self.ignored is None else own.ignored | self.ignored


def _issue(path: Path, level: str, problem: str, advice: str) -> Issue:
    return Issue(str(path.parent), path.name, problem, advice, level)
