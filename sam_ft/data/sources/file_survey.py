"""Reads the files of samples before training, to count objects and to find files that cannot be used."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sam_ft.data.io.appearance import Remark
from sam_ft.data.io.decoding import read_header
from sam_ft.data.io.images import read_image
from sam_ft.data.io.intensities import INTENSITIES
from sam_ft.data.io.objects import ObjectMap, read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.issues import Issue, issue_from, summarize
from sam_ft.data.sources.leaks import file_key
from sam_ft.data.sources.mask_facts import MaskFacts, counts_parts, find_facts
from sam_ft.data.sources.pairing import SampleFiles
from sam_ft.types import Size
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")


@dataclass(frozen=True)
class FileCounts:
    """Counts of one sample, or its issue.

    objects: number of objects · remarks: of its masks · dtype: of the image's values · facts: one per mask
    keys: see `Survey`
    """

    objects: int = 0
    remarks: Sequence[tuple[Path, Remark]] = ()
    dtype: np.dtype | None = None
    facts: Sequence[MaskFacts] = ()
    keys: Sequence[str] = ()
    issue: Issue | None = None


def count_files(items: Sequence[SampleFiles], rules: Rules) -> list[FileCounts]:
    """Reads every mask and every image's header once.

    Images are decoded too where their pixels may be invalid (floats), and always with on_bad="skip".
    """
    counted = [counts_parts(rules, position, len(items)) for position in range(len(items))]
    with ThreadPoolExecutor(8) as pool:  # decoding releases the interpreter's lock
        counts = pool.map(lambda item, with_parts: _count(item, rules, with_parts), items, counted)
        return list(tqdm(counts, "reading masks", len(items), leave=False, disable=None))


def _count(item: SampleFiles, rules: Rules, with_parts: bool) -> FileCounts:
    """with_parts: see `find_facts`"""
    try:
        header = read_header(item.image, rules.slices, rules.channels)
        # Only decoding finds a truncated file, or nan among floats.
        if rules.on_bad == "skip" or header.dtype.kind == "f":
            read_image(item.image, **rules.reading)
        remarks: list[tuple[Path, Remark]] = []
        facts, keys = [], [file_key(item.image)]
        for path, own in read_masks(item, rules, header.size):
            remarks += [(path, remark) for remark in own.remarks]
            refuse_own_image(path, item.image, own)
            facts.append(find_facts(own, rules, with_parts))
            keys += facts[-1].keys
    except DataError as error:
        return FileCounts(issue=issue_from(error, [item.image, *item.masks]))
    return FileCounts(sum(one.ids for one in facts), remarks, header.dtype, facts, keys)


def can_skip(bad: int, total: int, rules: Rules) -> bool:
    """Whether so many bad samples are left out: at most 1 %, and at least one, with on_bad="skip"."""
    return rules.on_bad == "skip" and bad <= max(1, total // 100)


def stop_or_skip(issues: Sequence[Issue], total: int, rules: Rules) -> None:
    """Warns of the samples that are left out. Raises: DataError that lists all issues where they are not skipped."""
    if not issues:
        return
    text = summarize(issues)
    if rules.on_bad == "stop":
        raise DataError(text)
    if not can_skip(len(issues), total, rules):
        raise DataError(
            f"{text}\n{len(issues)} of {total} images cannot be used: more than the 1 % (and more than one) "
            "that data.on_bad=skip leaves out"
        )
    log.warning("%d of %d images are left out (data.on_bad=skip):\n%s", len(issues), total, text)


def log_other_dtypes(items: Sequence[tuple[SampleFiles, FileCounts]], rules: Rules) -> None:
    """Logs how values other than unsigned 8 bits are scaled, if there are any."""
    if other := [(item.image, counts.dtype) for item, counts in items if counts.dtype != np.uint8]:
        log.info(
            "%d of %d images have values other than unsigned 8 bits, first %s (%s): %s (data.intensity=%s)",
            *(len(other), len(items), *other[0], INTENSITIES[rules.intensity], rules.intensity),
        )


def read_masks(item: SampleFiles, rules: Rules, size: Size) -> Iterator[tuple[Path, ObjectMap]]:
    """Each mask file and its objects, so that memory holds one file. Raises: DataError when it has another size."""
    for path in item.masks:
        own = read_objects(path, rules)
        check_mask_size(path, item.image, own, size)
        yield path, own


def refuse_own_image(path: Path, image: Path, objects: ObjectMap) -> None:
    """Raises: DataError when a mask with objects is a copy of its image."""
    if not image.is_file():  # a problem of its own
        return
    if objects.count and path.stat().st_size == image.stat().st_size and file_key(path) == file_key(image):
        raise DataError(
            f"{path}: the mask is the same file as its image; set data.mask_folder, or the mask column of the table, "
            "to the masks"
        )


def check_mask_size(path: Path, image: Path, objects: ObjectMap, size: Size) -> None:
    """Raises: DataError when a mask is not of its image's size."""
    (h, w), (height, width) = objects.ids.shape, size
    if (h, w) == (height, width):
        return
    message = f"{path}: the mask is {w} x {h} pixels but its image {image.name} is {width} x {height}"
    if (h, w) == (width, height):
        raise DataError(message + "; it looks turned by 90 degrees: check the EXIF orientation, or transpose the mask")
    raise DataError(message + "; resave the mask at the image's size, with nearest-neighbor interpolation")
