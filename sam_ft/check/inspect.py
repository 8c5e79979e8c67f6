"""Reads both splits of a data set in full, and collects all there is to say about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sam_ft.check.looks import Part, open_part, read_part
from sam_ft.check.together import about_classes, about_objects, about_sizes, about_whole_masks, doubles, leaks
from sam_ft.data.sources.issues import Fault


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
        part, faults = open_part(data, name)
        found.parts[name] = part
        found.add(name, faults)
        if part.split is not None:
            found.add(name, read_part(part, part.split, name, input_side))
    for name, part in found.parts.items():
        found.add(name, about_objects(part, name) + about_sizes(part, name, input_side))
        found.add(name, about_whole_masks(part, name) + doubles(part, name))
    train, val = found.parts.values()
    for fault in about_classes(train, val) + leaks(train, val):
        found.faults[fault] = fault.inside.split(" and ")
    return found
