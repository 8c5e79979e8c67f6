"""The loss that is trained: parts on one mask per object, and the IoU head beside them."""

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from sam_ft.types import Prediction
from sam_ft.utils.cpu_kernels import upsample

DISTANCES = {"l2": torch.square, "l1": torch.abs}


class Part(Protocol):
    """What a loss is made of; any class that looks like this will do."""

    weight: float

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """(M, S, S) float32, bool and bool -> (M,)."""


class Combined:
    """The weighted sum of some parts and of what the model's guess of its own IoU is off by.

    parts: by the name that each has in the log
    iou_head: "l2", the squared difference, as SAM was trained; "l1", its absolute value, as SAM 2 was

    Where the model answers with several candidates, they compete: only the one with the least mask loss learns its
    mask, for the others may stand for another thing at the same place (SAM paper, "Resolving ambiguity"). All learn to
    guess their IoU.

    Raises:
        ValueError: no part, one that is none, a name that is taken, a weight below 0, or an unknown iou_head
    """

    def __init__(self, parts: Mapping[str, Part], iou_head_weight: float = 1.0, iou_head: str = "l2"):
        check_parts(parts)
        check_weight("iou_head_weight", iou_head_weight)
        if iou_head not in DISTANCES:
            raise ValueError(f"iou_head={iou_head} is not one of {', '.join(DISTANCES)}")
        self.parts = dict(parts)
        self.iou_head_weight = iou_head_weight
        self.iou_head = iou_head

    def __call__(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """{"loss": (M,), each part: (M,) before its weight, "iou_head": (M,)}; only "loss" has a gradient.

        masks, valid: (M, S, S) bool
        """
        if prediction.logits.shape[1] == 1:
            logits = upsample(prediction.logits[:, 0], masks.shape[-1])
            true_iou = hard_iou(logits, masks, valid)[:, None]
        else:
            best, true_iou = self.compare(prediction, masks, valid)
            rows = torch.arange(len(best), device=best.device)
            logits = upsample(prediction.logits[rows, best], masks.shape[-1])
        parts = {name: part(logits, masks, valid) for name, part in self.parts.items()}
        head = DISTANCES[self.iou_head](prediction.pred_iou.float() - true_iou).mean(1)
        total = self.weighted_sum(parts) + self.iou_head_weight * head
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}, "iou_head": head.detach()}

    @torch.no_grad()
    def compare(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) int64, the candidate with the least mask loss, the first of equals; (M, C) the IoU that each has now.

        One candidate after the other and without a graph: it needs no more memory than one alone.
        """
        losses, ious = [], []
        for candidate in prediction.logits.unbind(1):
            logits = upsample(candidate, masks.shape[-1])
            losses.append(self.weighted_sum({name: part(logits, masks, valid) for name, part in self.parts.items()}))
            ious.append(hard_iou(logits, masks, valid))
        return torch.stack(losses).argmin(0), torch.stack(ious, 1)

    def weighted_sum(self, values: dict[str, Tensor]) -> Tensor:
        return torch.as_tensor(sum(self.parts[name].weight * value for name, value in values.items()))


def check_parts(parts: Mapping[str, Part]) -> None:
    if not isinstance(parts, Mapping) or not parts:
        raise ValueError(f"parts={parts}; expected at least one part by its name, such as dice: Dice(weight=1.0)")
    for name, part in parts.items():
        if name in ("loss", "iou_head"):
            raise ValueError(f"parts.{name}: the log has something else of this name; call the part by another one")
        if not callable(part) or not hasattr(part, "weight"):
            raise ValueError(
                f"parts.{name}={part}; expected a part such as Dice(weight=1.0). "
                f"parts.{name}.weight=... sets the weight of one, ~loss.parts.{name} on the command line leaves it out"
            )
        check_weight(f"parts.{name}.weight", part.weight)


def check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name}={weight}; expected a finite number of at least 0, which leaves it in the log only")


@torch.no_grad()
def hard_iou(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """The IoU of the thresholded masks with the true ones on valid pixels, (M,) float32; 0 where both are empty."""
    predicted = (logits > 0) & valid
    overlap = (predicted & masks).flatten(1).sum(1, dtype=torch.float32)
    union = ((predicted | masks) & valid).flatten(1).sum(1, dtype=torch.float32)
    return overlap / union.clamp(min=1)
