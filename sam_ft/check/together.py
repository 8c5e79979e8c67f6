"""What the looks at all samples say together: sizes, classes, and images that are there more than once."""

import numpy as np

from sam_ft.check.looks import Part
from sam_ft.data.sources.folder import LEAK
from sam_ft.data.sources.issues import Fault
from sam_ft.data.sources.survey import about_parts

SMALL = 8  # pixels of the input: two of the logits' cells, and half a patch of the encoder


def about_objects(part: Part, name: str) -> list[Fault]:
    if part.usable and not part.sides:
        what = "holds no objects at all"
        return [Fault(name, "", what, "look at the mask folder and at data.objects", kind="data set")]
    what, advice = "has no object", "no error: it is not trained on, and has nothing to score"
    names = part.split.names if part.split is not None else ()
    return [Fault(name, names[index], what, advice, "note", "image") for index in part.empty]


def about_whole_masks(part: Part, name: str) -> list[Fault]:
    """Masks that are taken for one object each, but look like several."""
    counts = [count for look in part.looks for count in look.parts if count]
    about = about_parts(sum(counts) / len(counts)) if counts else None
    return [] if about is None else [Fault(name, "", *about, "note", "data set")]


def about_classes(train: Part, val: Part) -> list[Fault]:
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


def about_sizes(part: Part, name: str, input_side: int) -> list[Fault]:
    small = int((np.array(part.sides) < SMALL).sum())
    if 2 * small <= len(part.sides):
        return []
    what = f"{small} of {len(part.sides)} objects are under {SMALL} pixels long in an input of {input_side}"
    advice = (
        "hardly any of their outline is left there: cut the images into tiles, or take a model with a larger input "
        "(1024 instead of 256) or a larger model.image_size"
    )
    return [Fault(name, "", what, advice, "warning", "data set")]


def doubles(part: Part, name: str) -> list[Fault]:
    """Images that a split has more than once."""
    first: dict[str, str] = {}
    faults = []
    for title, key in _keys(part):
        if first.setdefault(key, title) != title:
            what, advice = "has the same pixels as another one", "it counts twice; keep one of them"
            faults.append(Fault(name, f"{first[key]} = {title}", what, advice, "warning", "image"))
    return faults


def leaks(train: Part, val: Part) -> list[Fault]:
    """Images of val that are trained on."""
    trained = {key: title for title, key in reversed(_keys(train))}
    what, both = "has the same pixels in train and in val", "train and val"
    pairs = [f"{trained[key]} = {title}" for title, key in _keys(val) if key in trained]
    return [Fault(both, pair, what, LEAK, kind="image") for pair in pairs]


def _keys(part: Part) -> list[tuple[str, str]]:
    """Name and key of all that can be used."""
    return [(part.split.names[i], part.looks[i].key) for i in part.usable] if part.split is not None else []
