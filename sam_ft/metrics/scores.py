"""Scores of predicted masks against true ones, kept object by object so that processes can put theirs together."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sam_ft.metrics.summary import Summary, summarize
from sam_ft.utils.distributed import all_gather
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.geometry import areas


class Measure(Protocol):
    """One or more further scores of each object, for `Scores(measures=[...])`.

    names: of the scores that a call returns · monitors: those of them of which more is better
    """

    names: tuple[str, ...]
    monitors: tuple[str, ...]

    def __call__(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """predicted, true: (N, H, W) bool on the CPU in the original frame, each of `true` non-empty, N may be 0.

        Returns {name: (N,) float64}, all of them finite: they are averaged.
        """
        ...


class Scores:
    """IoU, Dice, precision and recall of each object, the model's guess of its IoU, and what `measures` add.

    Call `reset`, then `update` once per image, then `compute` on all processes together.

    monitors: the scores of masks of which more is better · class_monitors: those that are there with classes only

    Raises:
        ValueError: something that is no measure.
        ConfigError: two measures would write the same score.
    """

    class_monitors = ("iou_per_class", "dice_per_class")

    def __init__(self, measures: Sequence[Measure] = ()) -> None:
        self.measures = list(measures)
        if any(isinstance(m, type) or not hasattr(m, "monitors") or not hasattr(m, "names") for m in self.measures):
            raise ValueError(f"measures={measures}; expected some such as BoundaryIou(), as metric=boundary has them")
        self.monitors = ["iou", "dice", "precision", "recall", "iou_per_image", "dice_per_image"]
        self.monitors += [name for measure in self.measures for name in measure.monitors]
        self.names = [name for measure in self.measures for name in measure.names]
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise ConfigError(f"metric.measures: {', '.join(sorted(twice))} would be measured twice; leave one out")
        self.reset()

    def reset(self) -> None:
        self._images: list[Mapping[str, list]] = []

    def update(
        self,
        predicted: Tensor,
        true: Tensor,
        pred_iou: Tensor,
        labels: Tensor,
        ignore: Tensor | None = None,
        click_ious: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Adds one image's objects and returns their own scores.

        predicted, true: (N, H, W) bool in the original frame, each of `true` non-empty · pred_iou: (N,)
        labels: (N,) int64 · ignore: (H, W) bool, pixels that count for nothing; `true` holds none of them
        click_ious: (N, R) the IoU after each of R rounds, which are taken for clicks, as those of `clicks_5` are;
            None if there was one alone

        Returns (N,) tensors on the CPU, "area" in pixels as int64, all others float64: "iou", "dice", "precision",
        "recall", "pred_iou", those of the measures, and with clicks "iou_click_1" to "iou_click_R", "NoC@85"
        and "NoC@90". The precision of an empty prediction is 0: nothing of it is right.
        """
        if ignore is not None:
            predicted = predicted & ~ignore
        overlap, found, area = areas(predicted & true), areas(predicted), areas(true)
        scores = {
            "area": area,
            "iou": overlap.double() / (found + area - overlap),
            "dice": 2 * overlap.double() / (found + area),
            "precision": overlap.double() / found.clamp(min=1),
            "recall": overlap.double() / area,
            "pred_iou": pred_iou.double().cpu(),
        }
        if self.measures:
            predicted, true = predicted.cpu(), true.cpu()
        for measure in self.measures:
            scores |= measure(predicted, true)
        if click_ious is not None:
            scores |= _clicks(click_ious.cpu())
        if len(area):
            self._images.append({"label": labels.tolist(), **{name: own.tolist() for name, own in scores.items()}})
        return scores

    def compute(self, classes: Mapping[int, str] = {}) -> Summary:
        """The scores over all processes, the same however the images were shared out and in which order they came.

        classes: names of labels, where labels are classes
        """
        return summarize(all_gather(self._images), self.names, classes)


def _clicks(ious: Tensor) -> dict[str, Tensor]:
    """ious: (N, R) after each click → their columns, and how many clicks each object needed to reach 0.85 and 0.90.

    An object that never gets there counts R, so the means hang on R: compare runs of the same number of clicks.
    Source: "number of clicks", as RITM counts them (Sofiiuk et al. 2022, https://arxiv.org/abs/2102.06583).
    """
    columns = {f"iou_click_{click}": column.double() for click, column in enumerate(ious.unbind(1), 1)}
    for percent in (85, 90):
        reached = ious >= percent / 100  # in the precision of the IoUs, where 0.9 is 0.9
        first = reached.int().argmax(dim=1) + 1
        columns[f"NoC@{percent}"] = torch.where(reached.any(dim=1), first, ious.shape[1]).double()
    return columns
