"""Issues that show only across the images of a split, or across both splits."""

import numpy as np

from sam_ft.check.per_image import SplitContents
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.leaks import LEAK_ADVICE

SMALL_SIDE = 8  # pixels of the input: two pixels of the low-resolution mask, half a patch of the encoder


def find_missing_objects(contents: SplitContents, split: str) -> list[Issue]:
    """An issue where no image has an object, or a note for each image without objects."""
    if contents.usable and not contents.box_sides:
        problem = "holds no objects at all"
        advice = "look at the annotations, at data.categories, data.crowds and data.min_area"
        if hasattr(contents.split, "rules"):
            advice = "look at the mask folder and at data.objects"
        return [Issue(split, "", problem, advice, kind="data set")]
    problem, advice = "has no object", "no error: it is left out of training and has no score"
    names = contents.split.names if contents.split is not None else ()
    return [Issue(split, names[index], problem, advice, "note", "image") for index in contents.empty]


def find_hints(contents: SplitContents, split: str) -> list[Issue]:
    """What to look at in most masks."""
    if contents.split is None or not hasattr(contents.split, "hints"):
        return []
    hints = contents.split.hints([sample.facts for sample in contents.samples])
    return [Issue(split, "", hint.problem, hint.advice, hint.level, "data set") for hint in hints]


def find_absent_classes(train: SplitContents, val: SplitContents) -> list[Issue]:
    """Classes without objects in one of the splits, or in both."""
    if train.split is None or val.split is None:
        return []
    # (True, True) is no issue, so it is not listed.
    absent = {  # (in train, in val): splits without objects, level, advice
        (False, True): ("train", "warning", "it is scored but cannot be learned; add images that show it"),
        (True, False): ("val", "warning", "it is learned but gets no score; add images that show it"),
        (False, False): ("train and val", "note", "harmless if no image shows it"),
    }
    issues = []
    for label, name in {**train.split.classes, **val.split.classes}.items():
        present = (label in train.labels, label in val.labels)
        if present in absent:
            splits, level, advice = absent[present]
            issues.append(Issue(splits, str(name), "has no object", advice, level, "class"))
    return issues


def find_small_objects(contents: SplitContents, split: str, input_side: int) -> list[Issue]:
    """A warning where most objects are under `SMALL_SIDE` pixels of the input."""
    small = int((np.array(contents.box_sides) < SMALL_SIDE).sum())
    if 2 * small <= len(contents.box_sides):
        return []
    problem = (
        f"{small} of {len(contents.box_sides)} objects are under {SMALL_SIDE} pixels long in an input of {input_side}"
    )
    advice = (
        "hardly any of their outline is left there: data.tile=auto cuts the images into tiles; or choose a model with "
        "a larger input (1024 instead of 256) or a larger model.image_size"
    )
    return [Issue(split, "", problem, advice, "warning", "data set")]


def find_duplicates(contents: SplitContents, split: str) -> list[Issue]:
    """Images with the same pixels in one split."""
    first: dict[str, str] = {}
    issues = []
    for name, key in _names_and_keys(contents):
        if first.setdefault(key, name) != name:
            problem, advice = "has the same pixels as another one", "it counts twice; keep one of them"
            issues.append(Issue(split, f"{first[key]} = {name}", problem, advice, "warning", "image"))
    return issues


def find_leaks(train: SplitContents, val: SplitContents) -> list[Issue]:
    """Images of val with the same pixels as one of train."""
    # reversed: of duplicates the first one stays
    trained = {key: name for name, key in reversed(_names_and_keys(train))}
    problem, splits = "has the same pixels in train and in val", "train and val"
    pairs = [f"{trained[key]} = {name}" for name, key in _names_and_keys(val) if key in trained]
    return [Issue(splits, pair, problem, LEAK_ADVICE, kind="image") for pair in pairs]


def _names_and_keys(contents: SplitContents) -> list[tuple[str, str]]:
    """Name and pixels key of each usable sample."""
    if contents.split is None:
        return []
    return [(contents.split.names[index], contents.samples[index].pixels_key) for index in contents.usable]
