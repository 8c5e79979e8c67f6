"""Region terms: they compare whole masks, so that the background does not outweigh a small object."""

import torch
from torch import Tensor

from sam_ft.losses.pixelwise import signed_logits


class Dice:
    """1 - 2 |P T| / (|P| + |T|) with P the probabilities and T the gt mask (Milletari et al. 2016)."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        intersection, predicted, gt = soft_areas(logits, masks, valid)
        # clamp: without valid pixels the loss is 1 and has no gradient, instead of 0 / 0.
        return 1 - 2 * intersection / (predicted + gt).clamp(min=1e-6)


class Iou:
    """1 - |P T| / |P + T - P T| with P the probabilities and T the gt mask (Rahman and Wang 2016)."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        intersection, predicted, gt = soft_areas(logits, masks, valid)
        return 1 - intersection / (predicted + gt - intersection).clamp(min=1e-6)


class Tversky:
    """Dice with separate weights of false positives and false negatives (Salehi et al. 2017, with alpha = 1 - beta).

    beta: weight of false negatives; that of false positives is 1 - beta. 0.5 gives Dice.

    Raises:
        ValueError: beta outside 0 to 1
    """

    def __init__(self, weight: float = 1.0, beta: float = 0.7):
        if not 0 <= beta <= 1:
            raise ValueError(f"Tversky: beta={beta}; expected a number from 0 to 1")
        self.weight = weight
        self.beta = beta

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        intersection, predicted, gt = soft_areas(logits, masks, valid)
        # gt - intersection: soft false negatives; predicted - intersection: soft false positives.
        errors = self.beta * (gt - intersection) + (1 - self.beta) * (predicted - intersection)
        return 1 - intersection / (intersection + errors).clamp(min=1e-6)


class Lovasz:
    """The Lovász hinge, a convex surrogate of 1 - IoU (Berman et al. 2018), computed per object.

    The hinge error of a pixel is max(0, 1 - signed logit). Errors are sorted in falling order and weighted by the
    increase of the Jaccard loss when their pixel becomes wrong too. An object without valid pixels has a loss of 0.
    """

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        # The weights are constants of the gradient: the extension is linear while the order of errors stays.
        errors = ((1 - signed_logits(logits, masks)).relu() * valid.float()).flatten(1)
        return (errors * lovasz_grad(errors.detach(), (masks & valid).flatten(1))).sum(1)


@torch.no_grad()
def lovasz_grad(errors: Tensor, gt: Tensor) -> Tensor:
    """The gradient of the Lovász extension with respect to sorted errors (their algorithm 1), in pixel order, (M, P).

    errors: (M, P), 0 where not valid · gt: (M, P) bool
    """
    order = errors.argsort(1, descending=True)
    gt_sorted = gt.gather(1, order).float()
    # After the first k pixels of falling error became wrong: what is left of the intersection, and the union.
    intersection = gt_sorted.sum(1, keepdim=True) - gt_sorted.cumsum(1)
    union = intersection + torch.arange(1, errors.shape[1] + 1, device=errors.device, dtype=gt_sorted.dtype)
    # A false negative takes 1 from the intersection, a false positive adds 1 to the union. In closed form, because the
    # difference of successive IoUs would be lost in rounding for an object of a million pixels.
    grad = torch.where(gt_sorted > 0, 1 / union, intersection / (union * (union - 1).clamp(min=1)))
    return torch.empty_like(grad).scatter_(1, order, grad)  # back from sorted to pixel order


def soft_areas(logits: Tensor, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|P T|, |P| and |T| on valid pixels, (M,) each."""
    probability = logits.sigmoid() * valid.float()
    gt = (masks & valid).float()
    return (probability * gt).flatten(1).sum(1), probability.flatten(1).sum(1), gt.flatten(1).sum(1)
