"""Reads every file of a split in full and records the contents of each sample."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from tqdm import tqdm

from sam_ft.cache.views import pixels_key
from sam_ft.data.datasets import Split
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.mask_facts import MaskFacts
from sam_ft.data.transforms import boxes_of
from sam_ft.types import Sample
from sam_ft.utils.errors import DataError
from sam_ft.utils.geometry import resized_size, scale_boxes


@dataclass(frozen=True)
class SampleContents:
    """Contents of one sample, without its pixels.

    pixels_key: hash of the pixels, "" where the sample cannot be used · labels: one per object
    box_sides: the longer side of each object's box, in pixels of the input
    facts: about its masks
    """

    issues: Sequence[Issue] = ()
    pixels_key: str = ""
    labels: Sequence[int] = ()
    box_sides: Sequence[float] = ()
    facts: Sequence[MaskFacts] = ()


@dataclass
class SplitContents:
    """One split, or None where it cannot be opened, and the contents of its samples."""

    split: Split | None
    samples: list[SampleContents] = field(default_factory=list)

    @property
    def usable(self) -> list[int]:
        """Positions of the usable samples."""
        return [index for index, sample in enumerate(self.samples) if sample.pixels_key]

    @property
    def empty(self) -> list[int]:
        """Positions of the usable samples without objects."""
        return [index for index in self.usable if not self.samples[index].labels]

    @cached_property
    def labels(self) -> Counter[int]:
        """Number of objects of each label."""
        return Counter(label for sample in self.samples for label in sample.labels)

    @property
    def box_sides(self) -> list[float]:
        """The longer side of the box of every object."""
        return [side for sample in self.samples for side in sample.box_sides]


def open_usable_split(data, name: str) -> tuple[SplitContents, list[Issue]]:
    """The usable part of a split, and the issues of the rest; without `usable_split` the whole split or nothing."""
    issues: list[Issue] = []
    try:
        split = data.usable_split(name, issues) if hasattr(data, "usable_split") else data.split(name)
    except DataError as error:
        return SplitContents(None), [*issues, _issue_of_text(error)]
    return SplitContents(split), issues


def read_split(
    contents: SplitContents, split: Split, name: str, input_side: int, tile: int | str | None = None
) -> list[Issue]:
    """Reads all samples into `contents.samples`, and returns their issues.

    tile: side of the tiles in which the model sees the images; None or "auto" for whole ones
    """
    side = tile if isinstance(tile, int) else None
    with ThreadPoolExecutor(8) as pool:  # decoding releases the interpreter's lock
        samples = pool.map(lambda index: _read_sample(split, index, input_side, side), range(len(split)))
        contents.samples = list(tqdm(samples, f"{name}: reading", len(split), leave=False, disable=None))
    issues = [issue for sample in contents.samples for issue in sample.issues]
    # With on_bad=skip, training would leave these out as well: warnings then, and no errors.
    bad = len(split) - len(contents.usable)
    if hasattr(split, "can_skip") and split.can_skip(bad):
        left_out = "left out (data.on_bad=skip)"
        return [replace(one, level="warning", advice=left_out) if one.level == "error" else one for one in issues]
    return issues


def examine_sample(split: Split, index: int) -> tuple[Sample | None, list[Issue], list[MaskFacts]]:
    """A sample, its issues and facts; without `examine` the split reads the whole sample or nothing."""
    if hasattr(split, "examine"):
        return split.examine(index)
    try:
        return split[index], [], []
    except DataError as error:
        return None, [_issue_of_text(error)], []


def _read_sample(split: Split, index: int, input_side: int, tile: int | None) -> SampleContents:
    sample, issues, facts = examine_sample(split, index)
    if sample is None:
        return SampleContents(issues)
    # In the input frame, where the model sees them.
    seen = sample.size if tile is None else (min(tile, sample.size[0]), min(tile, sample.size[1]))
    boxes = scale_boxes(boxes_of(sample), seen, resized_size(seen, input_side))
    box_sides = (boxes[:, 2:] - boxes[:, :2]).amax(1).tolist() if len(boxes) else []
    return SampleContents(issues, pixels_key(sample.image), sample.labels.tolist(), box_sides, facts)


def _issue_of_text(error: DataError) -> Issue:
    """The issue of an error about no known file; its message is "location: problem; advice"."""
    location, _, problem = str(error).partition(": ")
    problem, _, advice = problem.partition("; ")
    return Issue(location, "", problem, advice, kind="data set")
