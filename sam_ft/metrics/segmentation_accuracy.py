"""Segmentation accuracy: true positives among all objects that are found or in the ground truth."""

import math

import numpy as np
import torch
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sam_ft.metrics.average_precision import encode_masks
from sam_ft.utils import distributed

THRESHOLDS = np.arange(10, 20) / 20  # of the IoU: 0.5 to 0.95, and 0.75 exactly


class SegmentationAccuracy:
    """SA = TP / (TP + FP + FN), at IoU 0.50, 0.75, and on average over 0.50, 0.55, ..., 0.95; means over images.

    Scores of the Data Science Bowl 2018; StarDist and Cellpose call the same quotient average precision. Pairs are
    matched one to one so that as many as possible reach the threshold. An image with neither gt nor predictions counts
    for nothing. Call `update` once per image, then `compute` on all processes together.
    """

    def __init__(self) -> None:
        self._images: list[tuple[str, list[float]]] = []

    def update(self, name: str, rles: list[dict], gt: list[dict], ignore: Tensor | None = None) -> None:
        """Adds one image.

        name: unique · rles: N predicted masks · gt: M objects, both as COCO's run lengths
        ignore: (H, W) bool; an unmatched prediction of which at least half lies there counts for nothing
        """
        ious = np.zeros((len(rles), len(gt)))
        if rles and gt:
            ious = np.asarray(coco_mask.iou(rles, gt, [0] * len(gt)))
        ignored = np.zeros(len(rles), bool)
        if rles and ignore is not None and ignore.any():
            ignored = np.asarray(coco_mask.iou(rles, encode_masks(ignore[None]), [1]))[:, 0] >= 0.5
        self._images.append((name, [accuracy(ious, threshold, ignored) for threshold in THRESHOLDS]))

    def compute(self) -> dict[str, float]:
        """{"sa50", "sa75", "msa"} over all processes; nan without images."""
        images = sorted(distributed.all_gather(self._images))
        values = torch.tensor([found for _, found in images], dtype=torch.float64).reshape(-1, len(THRESHOLDS))
        means = values.nanmean(dim=0)
        return {"sa50": float(means[0]), "sa75": float(means[5]), "msa": float(means.mean())}


def accuracy(ious: np.ndarray, threshold: float, ignored: np.ndarray) -> float:
    """SA of one image: (N, M) IoUs of predictions with gt; ignored: (N,) bool. Nan if there is nothing to count."""
    reached = ious >= threshold
    rows, columns = linear_sum_assignment(reached, maximize=True)
    hits = reached[rows, columns]
    matched = np.zeros(len(ious), bool)
    matched[rows[hits]] = True
    counted = hits.sum() + (~matched & ~ignored).sum() + ious.shape[1] - hits.sum()
    return float(hits.sum() / counted) if counted else math.nan
