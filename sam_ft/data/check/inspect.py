"""Reads every file of both splits in full, and notes all there is to say about them."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from tqdm import tqdm

from sam_ft.data.faults import Fault
from sam_ft.data.features import image_key
from sam_ft.data.folder import LEAK
from sam_ft.data.sets import Split
from sam_ft.errors import DataError
from sam_ft.geometry import masks_to_boxes, resized_size, scale_boxes
from sam_ft.types import Sample

SMALL = 8  # pixels of the input: two of the logits' cells, and half a patch of the encoder


@dataclass(frozen=True)
class Look:
    """What one sample holds; key: of its pixels, "" where it cannot be used.

    labels: one per object · sides: the longer side of each object's box, in pixels of the input
    """

    faults: Sequence[Fault] = ()
    key: str = ""
    labels: Sequence[int] = ()
    sides: Sequence[float] = ()


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


@dataclass
class Inspection:
    """parts: "train" and "val" · faults: each with the splits that have it, in order of their finding"""

    input_side: int
    parts: dict[str, Part] = field(default_factory=dict)
    faults: dict[Fault, list[str]] = field(default_factory=dict)

    def add(self, name: str, faults: Sequence[Fault]) -> None:
        for fault in faults:
            own = self.faults.setdefault(fault, [])
            if name not in own:
                own.append(name)

    def count(self, level: str) -> int:
        return sum(fault.level == level for fault in self.faults)


def inspect(data, input_side: int) -> Inspection:
    """Both splits of a data set, even where one of them is faulty.

    input_side: of the model, in whose pixels objects are measured
    """
    found = Inspection(input_side)
    for name in ("train", "val"):
        part, faults = _open(data, name)
        found.parts[name] = part
        found.add(name, faults)
        if part.split is not None:
            found.add(name, _read(part, part.split, name, input_side))
    for name, part in found.parts.items():
        found.add(name, _about_objects(part, name) + _about_sizes(part, name, input_side))
        found.add(name, _doubles(part, name))
    train, val = found.parts.values()
    for fault in _about_classes(train, val) + _leaks(train, val):
        found.faults[fault] = fault.inside.split(" and ")
    return found


def _open(data, name: str) -> tuple[Part, list[Fault]]:
    """A split of what can be used; a data set that does not know `sound_split` opens all of it or nothing."""
    faults: list[Fault] = []
    try:
        split = data.sound_split(name, faults) if hasattr(data, "sound_split") else data.split(name)
    except DataError as error:
        return Part(None), [*faults, _whole(error)]
    return Part(split), faults


def _read(part: Part, split: Split, name: str, input_side: int) -> list[Fault]:
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
    return Look(faults, image_key(sample.image), sample.labels.tolist(), sides)


def _whole(error: DataError) -> Fault:
    """A fault of which nothing is known but its text."""
    where, _, what = str(error).partition(": ")
    what, _, advice = what.partition("; ")
    return Fault(where, "", what, advice, kind="data set")


def _about_objects(part: Part, name: str) -> list[Fault]:
    if part.usable and not part.sides:
        what = "holds no objects at all"
        return [Fault(name, "", what, "look at the mask folder and at data.objects", kind="data set")]
    what, advice = "has no object", "no error: it is not trained on, and has nothing to score"
    names = part.split.names if part.split is not None else ()
    return [Fault(name, names[index], what, advice, "note", "image") for index in part.empty]


def _about_classes(train: Part, val: Part) -> list[Fault]:
    """Classes without any object in one of the splits, or in both."""
    if train.split is None or val.split is None:
        return []
    places = {
        (False, True): ("train", "warning", "it is scored but cannot be learned; add images that show it"),
        (True, False): ("val", "warning", "it is learned but gets no score; add images that show it"),
        (False, False): ("train and val", "note", "harmless, if it should not be there"),
    }
    faults = []
    for label, title in {**train.split.classes, **val.split.classes}.items():
        there = (label in train.labels, label in val.labels)
        if there in places:
            where, level, advice = places[there]
            faults.append(Fault(where, str(title), "has no object", advice, level, "class"))
    return faults


def _about_sizes(part: Part, name: str, input_side: int) -> list[Fault]:
    small = int((np.array(part.sides) < SMALL).sum())
    if 2 * small <= len(part.sides):
        return []
    what = f"{small} of {len(part.sides)} objects are under {SMALL} pixels long in an input of {input_side}"
    advice = (
        "hardly any of their outline is left there: cut the images into tiles, or take a model with a larger input "
        "(1024 instead of 256) or a larger model.image_size"
    )
    return [Fault(name, "", what, advice, "warning", "data set")]


def _doubles(part: Part, name: str) -> list[Fault]:
    """Images that a split has more than once."""
    first: dict[str, str] = {}
    faults = []
    for title, key in _keys(part):
        if first.setdefault(key, title) != title:
            what, advice = "has the same pixels as another one", "it counts twice; keep one of them"
            faults.append(Fault(name, f"{first[key]} = {title}", what, advice, "warning", "image"))
    return faults


def _leaks(train: Part, val: Part) -> list[Fault]:
    """Images of val that are trained on."""
    trained = {key: title for title, key in reversed(_keys(train))}
    what, both = "has the same pixels in train and in val", "train and val"
    pairs = [f"{trained[key]} = {title}" for title, key in _keys(val) if key in trained]
    return [Fault(both, pair, what, LEAK, kind="image") for pair in pairs]


def _keys(part: Part) -> list[tuple[str, str]]:
    """Name and key of all that can be used."""
    return [(part.split.names[i], part.looks[i].key) for i in part.usable] if part.split is not None else []
