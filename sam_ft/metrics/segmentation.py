"""Metrics of predicted masks against ground truth, kept per object so that processes can merge theirs exactly."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sam_ft.metrics.aggregate import AggregatedScores, aggregate
from sam_ft.utils.cpu_kernels import areas
from sam_ft.utils.distributed import all_gather
from sam_ft.utils.errors import ConfigError


class ObjectMetric(Protocol):
    """One or more further scores of each object, for `SegmentationMetrics(extra_metrics=[...])`.

    names: keys of the scores that a call returns · monitors: those of them where higher is better
    """

    names: tuple[str, ...]
    monitors: tuple[str, ...]

    def __call__(self, predicted: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """predicted, gt: (N, H, W) bool on the CPU in the original frame, each gt mask non-empty; N may be 0.

        Returns {name: (N,) float64}, all finite, because they are averaged.
        """
        ...


class SegmentationMetrics:
    """IoU, Dice, precision and recall of each object, the error of pred_iou, and the scores of `extra_metrics`.

    Call `reset`, then `update` for all objects, each once, then `compute` on all processes together.

    monitors: scores where higher is better · class_monitors: further ones that exist only with classes

    Raises:
        ValueError: an extra metric is not an `ObjectMetric`.
        ConfigError: two extra metrics have a score of the same name.
    """

    class_monitors = ("iou_per_class", "dice_per_class")

    def __init__(self, extra_metrics: Sequence[ObjectMetric] = ()) -> None:
        self.extra_metrics = list(extra_metrics)
        if any(
            isinstance(m, type) or not hasattr(m, "monitors") or not hasattr(m, "names") for m in self.extra_metrics
        ):
            raise ValueError(
                f"extra_metrics={self.extra_metrics}; expected metrics such as BoundaryIou(), see metric=boundary"
            )
        self.monitors = ["iou", "dice", "precision", "recall", "iou_per_image", "dice_per_image"]
        self.monitors += [name for metric in self.extra_metrics for name in metric.monitors]
        self.names = [name for metric in self.extra_metrics for name in metric.names]
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(
                f"metric.extra_metrics: {', '.join(sorted(twice))} would be computed twice; remove one of the metrics"
            )
        self.reset()

    def check_monitor(self, monitor: str, classes: Mapping[int, str], of_head: Sequence[str] = ()) -> None:
        """Refuses a score that cannot choose the best epoch.

        classes: names of labels; empty without classes · of_head: scores of a head

        Raises:
            ConfigError: no such score, or one where higher is not better.
        """
        known = [*self.monitors, *(self.class_monitors if classes else ()), *of_head]
        if monitor not in known:
            raise ConfigError(f"monitor={monitor} is no score where higher is better; choose from {', '.join(known)}")

    def reset(self) -> None:
        self._images: dict[str, dict[str, list]] = {}

    def update(
        self,
        name: str,
        predicted: Tensor,
        gt: Tensor,
        pred_iou: Tensor,
        labels: Tensor,
        ignore: Tensor | None = None,
        click_ious: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Adds some or all objects of one image and returns their scores.

        name: of the image, unique in the split; a mean over images takes all of its objects together
        predicted, gt: (N, H, W) bool in the original frame, each gt mask non-empty · pred_iou: (N,)
        labels: (N,) int64 · ignore: (H, W) bool, pixels excluded from every score; no gt mask holds any of them
        click_ious: (N, R) IoU after each of R clicks of an interactive session; None without one

        Returns (N,) tensors on the CPU, "area" and "predicted_area" in pixels as int64, all others float64: "iou",
        "dice", "precision" (0 for an empty prediction), "recall", "pred_iou", those of the extra metrics, and with
        clicks "iou_click_1" to "iou_click_R", "NoC@85" and "NoC@90".
        """
        # Only from the prediction: no gt mask holds ignored pixels.
        if ignore is not None:
            predicted = predicted & ~ignore
        # (N,) int64 on the CPU: float32 would round areas above 2^24 pixels.
        intersection, predicted_area, area = areas(predicted & gt), areas(predicted), areas(gt)
        scores = {
            "area": area,
            "iou": intersection.double() / (predicted_area + area - intersection),
            "dice": 2 * intersection.double() / (predicted_area + area),
            "precision": intersection.double() / predicted_area.clamp(min=1),
            "recall": intersection.double() / area,
            "pred_iou": pred_iou.double().cpu(),
        }
        # Extra metrics compute with NumPy and OpenCV, on the CPU.
        if self.extra_metrics:
            predicted, gt = predicted.cpu(), gt.cpu()
        for metric in self.extra_metrics:
            scores |= metric(predicted, gt)
        if click_ious is not None:
            scores |= _click_scores(click_ious.cpu())
        if len(area):  # an image without objects has no mean
            image = self._images.setdefault(name, {})
            for column, values in {"label": labels, **scores}.items():
                image.setdefault(column, []).extend(values.tolist())
        return scores | {"predicted_area": predicted_area}

    def compute(self, classes: Mapping[int, str] = {}) -> AggregatedScores:
        """The scores over all processes, independent of how images are distributed and of their order.

        classes: {label: name}, empty where labels are not classes
        """
        images: dict[str, dict[str, list]] = {}
        # The tiles of an image may be on several processes.
        for name, columns in all_gather(list(self._images.items())):
            image = images.setdefault(name, {})
            for column, values in columns.items():
                image.setdefault(column, []).extend(values)
        return aggregate(list(images.values()), self.names, classes)


def _click_scores(ious: Tensor) -> dict[str, Tensor]:
    """The IoU after each click, and the number of clicks (NoC) to reach an IoU of 0.85 and 0.90.

    ious: (N, R) after each click → {"iou_click_1" … "iou_click_R", "NoC@85", "NoC@90"}: (N,) float64
    An object that never reaches the IoU counts R. NoC thus depends on R: compare runs with the same number of clicks.
    Source: RITM (Sofiiuk et al. 2022, https://arxiv.org/abs/2102.06583).
    """
    columns = {f"iou_click_{click}": column.double() for click, column in enumerate(ious.unbind(1), 1)}
    for percent in (85, 90):
        reached = ious >= percent / 100  # in the IoUs' own precision, where 0.9 equals 0.9
        first = reached.int().argmax(dim=1) + 1  # argmax takes the first of equals
        columns[f"NoC@{percent}"] = torch.where(reached.any(dim=1), first, ious.shape[1]).double()
    return columns
