"""Reads every file of a split in full, and notes what each sample holds."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from tqdm import tqdm

from sam_ft.cache.precompute import image_key
from sam_ft.data.datasets import Split
from sam_ft.data.io.objects import count_components
from sam_ft.data.sources.issues import Fault
from sam_ft.types import Sample
from sam_ft.utils.errors import DataError
from sam_ft.utils.geometry import masks_to_boxes, resized_size, scale_boxes


@dataclass(frozen=True)
class Look:
    """What one sample holds; key: of its pixels, "" where it cannot be used.

    labels: one per object · sides: the longer side of each object's box, in pixels of the input
    parts: that do not touch, of each object that is a whole mask
    """

    faults: Sequence[Fault] = ()
    key: str = ""
    labels: Sequence[int] = ()
    sides: Sequence[float] = ()
    parts: Sequence[int] = ()


@dataclass
class Part:
    """One split, None where it cannot be opened, and a look at each of its samples."""

    split: Split | None
    looks: list[Look] = field(default_factory=list)

    @property
    def usable(self) -> list[int]:
        """The positions of the samples that can be used."""
        return [index for index, look in enumerate(self.looks) if look.key]

    @property
    def empty(self) -> list[int]:
        """Those of them without any object."""
        return [index for index in self.usable if not self.looks[index].labels]

    @cached_property
    def labels(self) -> Counter[int]:
        """Objects of each label."""
        return Counter(label for look in self.looks for label in look.labels)

    @property
    def sides(self) -> list[float]:
        """Of all objects."""
        return [side for look in self.looks for side in look.sides]


def open_part(data, name: str) -> tuple[Part, list[Fault]]:
    """A split of what can be used; a data set that does not know `sound_split` opens all of it or nothing."""
    faults: list[Fault] = []
    try:
        split = data.sound_split(name, faults) if hasattr(data, "sound_split") else data.split(name)
    except DataError as error:
        return Part(None), [*faults, _whole(error)]
    return Part(split), faults


def read_part(part: Part, split: Split, name: str, input_side: int) -> list[Fault]:
    with ThreadPoolExecutor(8) as pool:  # decoding lets go of the interpreter's lock
        looks = pool.map(lambda index: _look_at(split, index, input_side), range(len(split)))
        part.looks = list(tqdm(looks, f"{name}: reading", len(split), leave=False, disable=None))
    faults = [fault for look in part.looks for fault in look.faults]
    bad = len(split) - len(part.usable)
    if hasattr(split, "tolerates") and split.tolerates(bad):
        left_out = "left out (data.on_bad=skip)"
        return [replace(f, level="warning", advice=left_out) if f.level == "error" else f for f in faults]
    return faults


def examined(split: Split, index: int) -> tuple[Sample | None, list[Fault]]:
    """A sample and what there is to say about it; a split that cannot say it reads all of it or nothing."""
    if hasattr(split, "examine"):
        return split.examine(index)
    try:
        return split[index], []
    except DataError as error:
        return None, [_whole(error)]


def _look_at(split: Split, index: int, input_side: int) -> Look:
    sample, faults = examined(split, index)
    if sample is None:
        return Look(faults)
    boxes = scale_boxes(masks_to_boxes(sample.masks), sample.size, resized_size(sample.size, input_side))
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1).tolist() if len(boxes) else []
    parts = []
    if (rules := getattr(split, "rules", None)) is not None and rules.objects == "whole":
        parts = [count_components(mask, rules.min_area) for mask in sample.masks.numpy()]
    return Look(faults, image_key(sample.image), sample.labels.tolist(), sides, parts)


def _whole(error: DataError) -> Fault:
    """A fault of which nothing is known but its text."""
    where, _, what = str(error).partition(": ")
    what, _, advice = what.partition("; ")
    return Fault(where, "", what, advice, kind="data set")
