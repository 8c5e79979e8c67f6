"""The samples of one COCO split."""

import logging
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.io.decoding import SIDEWAYS, Header, read_header
from sam_ft.data.io.fingerprint import fingerprint
from sam_ft.data.io.images import image_tensor, read_image_with_missing, read_missing, read_size
from sam_ft.data.io.mask_values import IgnoreMask
from sam_ft.data.io.nodata import extreme_note, missing_note
from sam_ft.data.sources.coco_file import CocoFile
from sam_ft.data.sources.coco_issues import to_issues
from sam_ft.data.sources.issues import Issue, issue_from, summarize
from sam_ft.data.sources.leaks import file_key
from sam_ft.data.sources.mask_facts import MaskFacts
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.run_lengths import RunLengthMasks
from sam_ft.data.sources.survey import Survey
from sam_ft.types import Sample, Size
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")

SIZE_PRESERVING = (2, 3, 4)  # EXIF orientations that mirror or turn upside down


class CocoSplit:
    """Samples of one split; images are read and masks decoded at each access.

    The annotations and the existence of images are checked before, so the samples are the same on every process. Forked
    workers share the annotations, since they lie in a few arrays.
    """

    def __init__(self, content: CocoFile, intensity: str = "percentile") -> None:
        self.content = content
        self.file, self.folder = content.file, content.folder
        self.names, self.classes = content.names, content.classes
        self.intensity = intensity
        self._errors = content.errors

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """The sample in the original frame; without objects its masks are (0, H, W).

        Raises: DataError when the JSON has problems that are not skipped, or the image cannot be read or has another
            size.
        """
        image, missing = read_image_with_missing(self._path(index), self.intensity)
        self._raise_errors()
        return self._sample(index, image_tensor(image), (image.shape[0], image.shape[1]), missing)

    def annotations(self, index: int) -> Sample:
        """The same sample without its pixels; the image is not decoded."""
        self._raise_errors()
        path = self._path(index)
        return self._sample(index, torch.zeros(3, 0, 0, dtype=torch.uint8), read_size(path), read_missing(path))

    def size(self, index: int) -> Size:
        """(H, W) of an image, by its header."""
        return read_size(self._path(index))

    def fingerprint(self, index: int) -> str | None:
        """Changes whenever the image of a sample may have changed."""
        return fingerprint(self._path(index), self.intensity)

    def examine(self, index: int) -> tuple[Sample | None, list[Issue], list[MaskFacts]]:
        """Decodes the image in full: the sample, or None where it cannot be used, its issues, and no facts.

        `json_issues` has the issues of the JSON.
        """
        path = self._path(index)
        try:
            image, missing = read_image_with_missing(path, self.intensity)
            sample = self._sample(index, image_tensor(image), (image.shape[0], image.shape[1]), missing)
        except DataError as error:
            return None, [issue_from(error, [path])], []
        issues, header = [], read_header(path)
        if missing is not None:
            issues.append(Issue(str(path.parent), path.name, *missing_note(missing), "note"))
        elif extreme := extreme_note(image, header.dtype):
            issues.append(Issue(str(path.parent), path.name, *extreme, "warning"))
        if _is_turned_unseen(header):
            problem = (
                "is turned or mirrored by its EXIF orientation, and its size does not tell whether its annotations are"
            )
            advice = "look at the pictures; if image and masks do not match, remove the tag"
            issues.append(Issue(str(path.parent), path.name, problem, advice, "warning"))
        return sample, issues, []

    def json_issues(self) -> list[Issue]:
        """All entries of the JSON that cannot be used, warnings where they are left out; and what to look at."""
        issues = to_issues(self.file, self.content.problems, self.content.remarks, stops=bool(self._errors))
        return issues + [Issue(str(self.file), "", *hint, "data set") for hint in self.content.facts.hints()]

    def survey(self) -> Survey:
        """Reads the size of every image, to find issues before training; the masks are already counted.

        Warns of images whose orientation their size does not show. Raises: DataError that lists all issues.
        """
        # Threads: most of the time is waiting for the disk.
        with ThreadPoolExecutor(8) as pool:
            checks = pool.map(self._check_header, range(len(self)))
            found = list(tqdm(checks, "reading image sizes", len(self), leave=False, disable=None))
        issues = [issue for issue, _ in found if issue is not None]
        if self._errors or issues:
            raise DataError("\n".join([*self._errors, *([summarize(issues)] if issues else [])]))
        if turned := [name for name, (_, is_turned) in zip(self.names, found, strict=True) if is_turned]:
            log.warning(
                "%s: %d images are turned or mirrored by their EXIF orientation, and their size does not tell whether "
                "the annotations are too; if image and masks do not match in the pictures of the run, remove the tag: "
                "%s",
                *(self.folder, len(turned), join_names(turned)),
            )
        # Differences of the running count at the images' starts: objects of each image, without a loop.
        before = np.concatenate([[0], np.cumsum(self.content.objects)])  # objects before each annotation
        objects = np.diff(before[self.content.starts])
        empty = [name for name, count in zip(self.names, objects, strict=True) if not count]
        facts = self.content.facts
        keys = dict(zip(self.names, map(self._keys, range(len(self))), strict=True))
        # The number of crowds is in the log anyway.
        hints = [hint for hint in facts.hints() if hint.level == "warning" or "iscrowd" not in hint.problem]
        return Survey(len(self), int(objects.sum()), empty, lossy=0, hints=hints, counts=facts.counts, keys=keys)

    def _keys(self, index: int) -> list[str]:
        """See `Survey`."""
        start, stop = self.content.ends[self.content.starts[index : index + 2]]
        own = [f"runs {self.content.sizes[index]} {zlib.crc32(self.content.runs[start:stop])}"] if start < stop else []
        return [file_key(self._path(index)), *own]

    def _raise_errors(self) -> None:
        if self._errors:
            raise DataError("\n".join(self._errors))

    def _sample(self, index: int, image: Tensor, size: Size, missing: IgnoreMask) -> Sample:
        """missing: pixels of the image that hold no data"""
        self._check_size(index, size)
        content = self.content
        own = np.arange(content.starts[index], content.starts[index + 1])
        kept = own[content.objects[own]]
        masks = self._masks(kept, size)
        # Crowds and small objects; where an object covers them, its pixels count.
        ignored = self._masks(own[~content.objects[own]], size)
        ignore = ignored.union() if len(ignored) else np.zeros(1, bool)
        ignore = ignore if missing is None else ignore | missing
        if ignore.any():
            ignore = ignore & ~masks.union()
        return Sample(
            image=image,
            masks=masks,
            labels=torch.from_numpy(content.labels[kept]),
            name=self.names[index],
            size=size,
            object_index=torch.arange(len(kept)),
            ignore=torch.from_numpy(ignore) if ignore.any() else None,
        )

    def _masks(self, positions: np.ndarray, size: Size) -> RunLengthMasks:
        """The masks at N positions of the arrays."""
        ends, runs = self.content.ends, self.content.runs
        return RunLengthMasks([runs[ends[a] : ends[a + 1]] for a in positions], size)

    def _check_header(self, index: int) -> tuple[Issue | None, bool]:
        """The issue of an image, and whether EXIF turns it in a way that its size does not show."""
        try:
            header = read_header(self._path(index))
            self._check_size(index, header.size)
        except DataError as error:
            return issue_from(error, [self._path(index)]), False
        return None, _is_turned_unseen(header)

    def _check_size(self, index: int, size: Size) -> None:
        """Raises: DataError when the image does not have the size that the JSON gives."""
        (height, width), (h, w), path = self.content.sizes[index], size, self._path(index)
        if (height, width) == (h, w):
            return
        source = self.file.name if self.file.is_file() else "its entry"
        message = f"{path}: the image is {w} x {h} pixels but {source} says {width} x {height}"
        # Height and width exchanged, and EXIF says why.
        if (height, width) == (w, h) and read_header(path).orientation in SIDEWAYS:
            raise DataError(
                f"{message}, which is its size without its EXIF orientation: it was annotated as it is stored; remove "
                "the orientation tag from the image, which is otherwise turned upright"
            )
        raise DataError(f"{message}; use the images that were annotated, or scale the annotations with them")

    def _path(self, index: int) -> Path:
        return self.folder / self.content.files[index]


def _is_turned_unseen(header: Header) -> bool:
    """Whether EXIF turns or mirrors an image and leaves its size as it is."""
    square = header.size[0] == header.size[1]
    return header.orientation in SIZE_PRESERVING or (square and header.orientation in SIDEWAYS)
