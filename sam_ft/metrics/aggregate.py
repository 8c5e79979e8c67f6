"""Means of per-object scores, each an exactly rounded sum: independent of order and of the number of processes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import fsum, nan, sqrt
from typing import NamedTuple

import numpy as np

GroupScores = dict[str, float | None]

# COCO's area ranges: small is below 32² pixels of the original image, medium below 96²
# (https://cocodataset.org/#detection-eval).
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}

# The click scores that are averaged; the rows of objects hold all of them.
CLICK_SCORES = ("iou_click_1", "iou_click_3", "iou_click_5", "NoC@85", "NoC@90")


class AggregatedScores(NamedTuple):
    """Means over a split, and over each class and size.

    scores: means over all objects
    groups: {"class" or "size": {name: {"objects", "iou", "dice" and the extra metrics}}}; a class without objects has
        0 objects and None for every score, a size without objects is left out
    """

    scores: dict[str, float]
    groups: dict[str, dict[str, GroupScores]]


def aggregate(
    images: Sequence[Mapping[str, list]], extra_names: Sequence[str], classes: Mapping[int, str]
) -> AggregatedScores:
    """Averages the scores of all objects; without objects every score is nan.

    images: per image the columns of `SegmentationMetrics.update` and "label", objects in any order
    extra_names: scores of extra metrics · classes: {label: name}

    A mean over objects weights an image by its number of objects. A mean over images (of the mean in each) and a mean
    over classes (of the mean in each class present) weight images and classes equally.
    """
    base = ("label", "area", "iou", "dice", "precision", "recall", "pred_iou", *extra_names)
    names = images[0].keys() if images else base
    # Columns over all objects of the split: {"iou": [...], "area": [...], ...}.
    objects = {name: list(chain.from_iterable(image[name] for image in images)) for name in names}
    # By name and not by label: two labels may have one name.
    class_names = [classes.get(label) for label in objects["label"]]
    group_names = ("iou", "dice", *extra_names)
    groups = {
        "class": {
            name: _group(objects, group_names, [name == own for own in class_names]) for name in classes.values()
        },
        "size": {
            name: _group(objects, group_names, [low <= area < high for area in objects["area"]])
            for name, (low, high) in SIZES.items()
        },
    }
    # Empty sizes are left out; empty classes stay, to show what the split lacks.
    groups["size"] = {name: group for name, group in groups["size"].items() if group["objects"]}

    # Means over objects, over images and over classes.
    scores = {name: _mean(objects[name]) for name in ("iou", "dice", "precision", "recall")}
    for name in ("iou", "dice"):
        scores[f"{name}_per_image"] = _mean([_mean(image[name]) for image in images])
    if classes:
        for name in ("iou", "dice"):
            means = (group[name] for group in groups["class"].values())
            scores[f"{name}_per_class"] = _mean([mean for mean in means if mean is not None])
    # The calibration of pred_iou: its error, and whether it ranks objects as their IoU does.
    pred_iou, iou = objects["pred_iou"], objects["iou"]
    scores["pred_iou_mae"] = _mean([abs(a - b) for a, b in zip(pred_iou, iou, strict=True)])
    scores["pred_iou_spearman"] = spearman(pred_iou, iou)
    scores |= {name: _mean(objects[name]) for name in (*extra_names, *CLICK_SCORES) if name in objects}
    return AggregatedScores({**scores, "objects": len(iou), "images": len(images)}, groups)


def _group(objects: Mapping[str, list], names: Iterable[str], is_member: Sequence[bool]) -> GroupScores:
    count = sum(is_member)
    chosen = {name: [value for value, own in zip(objects[name], is_member, strict=True) if own] for name in names}
    return {"objects": count, **{name: _mean(values) if count else None for name, values in chosen.items()}}


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values) if values else nan  # fsum rounds once, so the order of values does not matter


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; tied values share the mean of their ranks.

    nan where undefined: fewer than two values, all of `a` or all of `b` equal, or a value that is not finite.
    """
    if len(a) < 2 or not np.isfinite([a, b]).all():
        return nan
    x, y = (_ranks(values) - (len(a) + 1) / 2 for values in (a, b))  # centered: ranks have this mean, ties or not
    scale = sqrt(fsum(x * x) * fsum(y * y))  # 0 if all ranks of one side are tied
    return fsum(x * y) / scale if scale else nan


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1 for the smallest; ties get the mean of the ranks they span."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    # cumsum is the last rank of a group of ties; the mean of its ranks lies (count - 1) / 2 before that.
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
