"""The training loss: weighted terms on one mask per object, and the loss of the IoU prediction head."""

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from sam_ft.types import Prediction
from sam_ft.utils.cpu_kernels import upsample

DISTANCES = {"l2": torch.square, "l1": torch.abs}


class LossTerm(Protocol):
    """A term of the loss on masks."""

    weight: float

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """(M, S, S) float32, bool and bool -> (M,)."""


class Combined:
    """The weighted sum of loss terms and of the error of pred_iou.

    terms: by their names in the log
    iou_head: "l2", the squared error as in SAM, or "l1", the absolute error as in SAM 2

    With several candidates per object, only the candidate of lowest mask loss gets gradients of the terms: the others
    may be valid masks of another object at the same place (SAM paper, "Resolving ambiguity"). The IoU head learns from
    all candidates.

    Raises:
        ValueError: no term, one without a weight, a reserved name, a negative weight, or an unknown iou_head
    """

    def __init__(self, terms: Mapping[str, LossTerm], iou_head_weight: float = 1.0, iou_head: str = "l2"):
        check_terms(terms)
        check_weight("iou_head_weight", iou_head_weight)
        if iou_head not in DISTANCES:
            raise ValueError(f"iou_head={iou_head} is not one of {', '.join(DISTANCES)}")
        self.terms = dict(terms)
        self.iou_head_weight = iou_head_weight
        self.iou_head = iou_head

    def __call__(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """{"loss": (M,), each term: (M,) before its weight, "iou_head": (M,)}; only "loss" has a gradient.

        masks, valid: (M, S, S) bool
        """
        # One candidate: nothing to choose.
        if prediction.logits.shape[1] == 1:
            logits = upsample(prediction.logits[:, 0], masks.shape[-1])
            iou = hard_iou(logits, masks, valid)[:, None]
        else:
            # Only the best candidate is upsampled with a graph.
            best, iou = self.best_candidate(prediction, masks, valid)
            rows = torch.arange(len(best), device=best.device)
            logits = upsample(prediction.logits[rows, best], masks.shape[-1])
        terms = {name: term(logits, masks, valid) for name, term in self.terms.items()}
        head = DISTANCES[self.iou_head](prediction.pred_iou.float() - iou).mean(1)  # (M,): mean over C
        total = self.weighted_sum(terms) + self.iou_head_weight * head
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}, "iou_head": head.detach()}

    @torch.no_grad()
    def best_candidate(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The index (M,) of the candidate of lowest mask loss, the first of ties, and the IoU (M, C) of each candidate.

        Candidates are upsampled one by one and without a graph, so memory does not grow with their number.
        """
        losses, ious = [], []
        for candidate in prediction.logits.unbind(1):
            logits = upsample(candidate, masks.shape[-1])
            losses.append(self.weighted_sum({name: term(logits, masks, valid) for name, term in self.terms.items()}))
            ious.append(hard_iou(logits, masks, valid))
        return torch.stack(losses).argmin(0), torch.stack(ious, 1)

    def weighted_sum(self, values: dict[str, Tensor]) -> Tensor:
        return torch.as_tensor(sum(self.terms[name].weight * value for name, value in values.items()))


def check_terms(terms: Mapping[str, LossTerm]) -> None:
    if not isinstance(terms, Mapping) or not terms:
        raise ValueError(f"terms={terms}; expected at least one term by its name, such as dice: Dice(weight=1.0)")
    for name, term in terms.items():
        if name in ("loss", "iou_head"):
            raise ValueError(f"terms.{name}: the log uses this name for another value; give the term another name")
        if not callable(term) or not hasattr(term, "weight"):
            raise ValueError(
                f"terms.{name}={term}; expected a term such as Dice(weight=1.0). "
                f"terms.{name}.weight=... sets its weight, ~loss.terms.{name} on the command line removes it"
            )
        check_weight(f"terms.{name}.weight", term.weight)


def check_weight(name: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name}={weight}; expected a finite number, at least 0 (0 only logs the term)")


@torch.no_grad()
def hard_iou(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """The IoU of thresholded masks and ground truth on valid pixels, (M,) float32; 0 where both are empty."""
    predicted = (logits > 0) & valid
    intersection = (predicted & masks).flatten(1).sum(1, dtype=torch.float32)
    # float32 counts are exact up to 2^24 pixels, an input side of 4096.
    union = ((predicted | masks) & valid).flatten(1).sum(1, dtype=torch.float32)
    return intersection / union.clamp(min=1)
