"""Means of what was scored object by object, each an exactly rounded sum: neither order nor processes change them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import fsum, nan, sqrt
from typing import NamedTuple

import numpy as np

Group = dict[str, float | None]

# Sides of COCO's area ranges: an object is small below 32² pixels of the original image, medium below 96²
# (https://cocodataset.org/#detection-eval).
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}

# Of the clicks that there were; each object's rows hold all of them.
CLICKS = ("iou_click_1", "iou_click_3", "iou_click_5", "NoC@85", "NoC@90")


class Summary(NamedTuple):
    """scores: means over all objects · groups: {"class" or "size": {name: its "objects", "iou", "dice" and measures}}.

    A class without an object is there with 0 objects, and None for all its scores; a size without one is left out.
    """

    scores: dict[str, float]
    groups: dict[str, dict[str, Group]]


def summarize(images: Sequence[Mapping[str, list]], measures: Sequence[str], classes: Mapping[int, str]) -> Summary:
    """images: each one's objects as columns, as `Scores.update` returns them, with their "label" · measures: names.

    A mean over objects weights an image by how many it holds; a mean over images (of the mean in each) does not; a
    mean over classes (of the mean in each that is present) lets a rare class count as much as a common one.
    Without a single object every score is nan: there is nothing to be right or wrong about.
    """
    base = ("label", "area", "iou", "dice", "precision", "recall", "pred_iou", *measures)
    names = images[0].keys() if images else base
    objects = {name: list(chain.from_iterable(image[name] for image in images)) for name in names}
    named = [classes.get(label) for label in objects["label"]]
    in_groups = ("iou", "dice", *measures)
    groups = {
        "class": {name: _group(objects, in_groups, [name == own for own in named]) for name in classes.values()},
        "size": {
            name: _group(objects, in_groups, [low <= area < high for area in objects["area"]])
            for name, (low, high) in SIZES.items()
        },
    }
    groups["size"] = {name: group for name, group in groups["size"].items() if group["objects"]}

    scores = {name: _mean(objects[name]) for name in ("iou", "dice", "precision", "recall")}
    for name in ("iou", "dice"):
        scores[f"{name}_per_image"] = _mean([_mean(image[name]) for image in images])
    if classes:
        for name in ("iou", "dice"):
            means = (group[name] for group in groups["class"].values())
            scores[f"{name}_per_class"] = _mean([mean for mean in means if mean is not None])
    guessed, true = objects["pred_iou"], objects["iou"]
    scores["pred_iou_mae"] = _mean([abs(a - b) for a, b in zip(guessed, true, strict=True)])
    scores["pred_iou_spearman"] = rank_correlation(guessed, true)
    scores |= {name: _mean(objects[name]) for name in (*measures, *CLICKS) if name in objects}
    return Summary({**scores, "objects": len(true), "images": len(images)}, groups)


def _group(objects: Mapping[str, list], names: Iterable[str], member: Sequence[bool]) -> Group:
    count = sum(member)
    chosen = {name: [value for value, own in zip(objects[name], member, strict=True) if own] for name in names}
    return {"objects": count, **{name: _mean(values) if count else None for name, values in chosen.items()}}


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values) if values else nan


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of the ranks, where equal values share the mean of theirs.

    nan if it is undefined: for fewer than two values, where all of `a` or all of `b` are equal, or one is no number.
    """
    if len(a) < 2 or not np.isfinite([a, b]).all():
        return nan
    x, y = (_ranks(values) - (len(a) + 1) / 2 for values in (a, b))  # their mean is always 0 then
    spread = sqrt(fsum(x * x) * fsum(y * y))
    return fsum(x * y) / spread if spread else nan


def _ranks(values: Sequence[float]) -> np.ndarray:
    """1 for the smallest; equal ones get the mean of the ranks that they take up."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
