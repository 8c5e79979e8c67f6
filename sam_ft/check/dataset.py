"""Checks both splits of a data set in full and collects their issues."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sam_ft.check.across_images import (
    find_absent_classes,
    find_duplicates,
    find_hints,
    find_leaks,
    find_missing_objects,
    find_small_objects,
)
from sam_ft.check.per_image import SplitContents, open_usable_split, read_split
from sam_ft.data.sources.issues import Issue


@dataclass
class CheckResult:
    """splits: "train" and "val" · issues: each with the names of its splits, in order of detection."""

    input_side: int
    splits: dict[str, SplitContents] = field(default_factory=dict)
    issues: dict[Issue, list[str]] = field(default_factory=dict)

    def add(self, split: str, issues: Sequence[Issue]) -> None:
        for issue in issues:
            names = self.issues.setdefault(issue, [])
            if split not in names:
                names.append(split)

    def count(self, level: str) -> int:
        return sum(issue.level == level for issue in self.issues)


def check_dataset(data, input_side: int) -> CheckResult:
    """Checks both splits of a data set, even where one of them cannot be opened.

    input_side: of the model; objects are measured in its pixels, in whole images or the tiles of data.tile
    """
    tile = getattr(data, "tile", None)
    result = CheckResult(input_side)
    for name in ("train", "val"):
        contents, issues = open_usable_split(data, name)
        result.splits[name] = contents
        result.add(name, issues)
        if contents.split is not None:
            result.add(name, read_split(contents, contents.split, name, input_side, tile))
    # After both splits were read, even if one of them could not be opened.
    for name, contents in result.splits.items():
        result.add(name, find_missing_objects(contents, name))
        if tile != "auto":  # which enlarges them
            result.add(name, find_small_objects(contents, name, input_side))
        result.add(name, find_hints(contents, name) + find_duplicates(contents, name))
    train, val = result.splits.values()
    for issue in find_absent_classes(train, val) + find_leaks(train, val):
        result.issues[issue] = issue.location.split(" and ")  # "train and val": an issue of both
    return result
