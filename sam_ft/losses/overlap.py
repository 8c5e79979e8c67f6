"""Parts that compare a mask with the true one as a whole, so that the background cannot drown a small object."""

import torch
from torch import Tensor

from sam_ft.losses.pixelwise import signed_logits


class Dice:
    """1 - 2 |P T| / (|P| + |T|) with P the probabilities and T the mask (Milletari et al. 2016)."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        overlap, predicted, true = soft_areas(logits, masks, valid)
        return 1 - 2 * overlap / (predicted + true).clamp(min=1e-6)


class Iou:
    """1 - |P T| / |P + T - P T| with P the probabilities and T the mask (Rahman and Wang 2016)."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        overlap, predicted, true = soft_areas(logits, masks, valid)
        return 1 - overlap / (predicted + true - overlap).clamp(min=1e-6)


class Tversky:
    """Dice in which a missed pixel and an extra one cost differently (Salehi et al. 2017, with alpha + beta = 1).

    beta: what a missed pixel costs, their beta; an extra one costs 1 - beta. At 0.5 it is Dice.

    Raises:
        ValueError: beta outside 0 to 1
    """

    def __init__(self, weight: float = 1.0, beta: float = 0.7):
        if not 0 <= beta <= 1:
            raise ValueError(f"Tversky: beta={beta}; expected a share from 0 to 1")
        self.weight = weight
        self.beta = beta

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        overlap, predicted, true = soft_areas(logits, masks, valid)
        errors = self.beta * (true - overlap) + (1 - self.beta) * (predicted - overlap)
        return 1 - overlap / (overlap + errors).clamp(min=1e-6)


class Lovasz:
    """The IoU lost by thresholding, made continuous: the Lovász hinge (Berman et al. 2018), each object by itself.

    A pixel's error is how far its logit is from 1 on the true side, at least 0. Errors are taken from the largest on,
    and each counts as much as the IoU sinks when its pixel is wrong too. An object without a valid pixel costs nothing.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        errors = ((1 - signed_logits(logits, masks)).relu() * valid.float()).flatten(1)
        return (errors * iou_losses(errors.detach(), (masks & valid).flatten(1))).sum(1)


@torch.no_grad()
def iou_losses(errors: Tensor, true: Tensor) -> Tensor:
    """How much IoU each pixel costs when it becomes wrong after all with larger errors, (M, P).

    errors: (M, P), 0 where they do not count · true: (M, P) bool
    """
    order = errors.argsort(1, descending=True)
    own = true.gather(1, order).float()
    area = own.sum(1, keepdim=True)
    missed = own.cumsum(1)
    overlap = area - missed
    union = overlap + torch.arange(1, errors.shape[1] + 1, device=errors.device, dtype=own.dtype)
    # A missed pixel takes 1 from the overlap, an extra one adds 1 to the union. Written out, for the difference of two
    # neighboring IoUs would be lost in rounding where the object has a million pixels.
    lost = torch.where(own > 0, 1 / union, overlap / (union * (union - 1).clamp(min=1)))
    return torch.empty_like(lost).scatter_(1, order, lost)


def soft_areas(logits: Tensor, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|P T|, |P| and |T| on valid pixels, (M,) each."""
    probability = logits.sigmoid() * valid.float()
    true = (masks & valid).float()
    return (probability * true).flatten(1).sum(1), probability.flatten(1).sum(1), true.flatten(1).sum(1)
