"""Losses: (Prediction, masks) -> {name: (M,)}, one number per object, so that the caller decides how to average.

All are computed in float32 at the model's input side S, on pixels of the image only: padding teaches nothing.
`masks` and `valid` are (M, S, S) bool; `valid` is true where the input frame holds image. The entry "loss" is the
weighted sum that is trained; the others are its parts before weighting, for the log.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ft.types import Prediction


class BceIou:
    """Binary cross-entropy plus soft IoU; both are means over an object's image, so size does not weight objects."""

    def __init__(self, bce_weight: float = 1.0, iou_weight: float = 1.0, iou_head_weight: float = 1.0):
        self.bce_weight = bce_weight
        self.iou_weight = iou_weight
        self.iou_head_weight = iou_head_weight

    def __call__(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> dict[str, Tensor]:
        logits = at_input_side(prediction, masks.shape[-1])
        parts = {
            "bce": binary_cross_entropy(logits, masks, valid),
            "soft_iou": soft_iou_loss(logits, masks, valid),
            "iou_head": iou_head_loss(prediction, logits, masks, valid),
        }
        weights = (self.bce_weight, self.iou_weight, self.iou_head_weight)
        return weighted_sum(parts, weights)


class DiceFocalIou:
    """Focal plus Dice, as SAM was trained: 20 to 1, and the IoU head beside them (SAM paper, appendix A)."""

    def __init__(
        self,
        focal_weight: float = 20.0,
        dice_weight: float = 1.0,
        iou_head_weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        self.focal_weight = focal_weight
        self.dice_weight = dice_weight
        self.iou_head_weight = iou_head_weight
        self.alpha = alpha
        self.gamma = gamma

    def __call__(self, prediction: Prediction, masks: Tensor, valid: Tensor) -> dict[str, Tensor]:
        logits = at_input_side(prediction, masks.shape[-1])
        parts = {
            "focal": focal_loss(logits, masks, valid, self.alpha, self.gamma),
            "dice": dice_loss(logits, masks, valid),
            "iou_head": iou_head_loss(prediction, logits, masks, valid),
        }
        weights = (self.focal_weight, self.dice_weight, self.iou_head_weight)
        return weighted_sum(parts, weights)


def at_input_side(prediction: Prediction, side: int) -> Tensor:
    """The single candidate's logits in the input frame, (M, S, S) float32, upsampled as SamPredictor does.

    Raises:
        ValueError: the prediction holds several candidates; these losses train the single-mask output.
    """
    if prediction.logits.shape[1] != 1:
        raise ValueError(f"expected one candidate mask per object, got {prediction.logits.shape[1]}")
    # autocast would leave bfloat16 here, whose 8 bits of mantissa are too few to sum a million pixels
    logits = prediction.logits.float()[:, 0]
    # x, then y, with all that lies across as channels, last in memory: there the kernels can do many at a time.
    # The numbers are those of one call for both, whose gradient takes a CPU five times as long.
    for _ in range(2):
        channels_last = logits.transpose(1, 2).contiguous().unsqueeze(2).permute(0, 3, 1, 2)
        stretched = F.interpolate(channels_last, (side, 1), mode="bilinear", align_corners=False)
        logits = stretched.permute(0, 2, 3, 1).squeeze(2)
    return logits


def weighted_sum(parts: dict[str, Tensor], weights: tuple[float, ...]) -> dict[str, Tensor]:
    """Adds the entry "loss" to the parts, in front of them."""
    total = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    return {"loss": torch.as_tensor(total), **{name: part.detach() for name, part in parts.items()}}


def binary_cross_entropy(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid pixels of -log p(true value of the pixel), (M,)."""
    return -_mean_over(log_sigmoid(_for_truth(logits, masks)), valid)


def focal_loss(logits: Tensor, masks: Tensor, valid: Tensor, alpha: float, gamma: float) -> Tensor:
    """Mean over valid pixels of -a (1 - p)^gamma log p, p = probability of the true value (Lin et al. 2017), (M,).

    a is `alpha` on object pixels and 1 - alpha on the background.
    """
    logits = _for_truth(logits, masks)
    balance = masks.float().mul_(2 * alpha - 1).add_(1 - alpha)
    return -_mean_over((-logits).sigmoid() ** gamma * log_sigmoid(logits) * balance, valid)


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """1 - 2 |P T| / (|P| + |T|) with P the probabilities and T the mask (Milletari et al. 2016), (M,)."""
    overlap, predicted, true = _soft_areas(logits, masks, valid)
    return 1 - 2 * overlap / (predicted + true).clamp(min=1e-6)


def soft_iou_loss(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """1 - |P T| / |P + T - P T| with P the probabilities and T the mask (Rahman and Wang 2016), (M,)."""
    overlap, predicted, true = _soft_areas(logits, masks, valid)
    return 1 - overlap / (predicted + true - overlap).clamp(min=1e-6)


def iou_head_loss(prediction: Prediction, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Squared difference between the IoU that the model predicts and the one its mask has now, (M,)."""
    with torch.no_grad():
        predicted = (logits > 0) & valid
        overlap = (predicted & masks).flatten(1).sum(1, dtype=torch.float32)
        union = ((predicted | masks) & valid).flatten(1).sum(1, dtype=torch.float32)
        true_iou = overlap / union.clamp(min=1)
    return (prediction.iou[:, 0].float() - true_iou) ** 2


def _for_truth(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits of "object" turned into those of what the pixel truly is, so that log p is their log sigmoid."""
    return logits * masks.float().mul_(2).sub_(1)


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), to 6e-8 where that is more than its own precision; like x, float32.

    On a CPU without log1p, of which torch has no vectorised kernel there: it takes four times as long as all of this.
    """
    return _LogSigmoid.apply(x) if x.device.type == "cpu" else F.logsigmoid(x)


class _LogSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.abs().neg_().exp_().add_(1).log_().neg_().add_(x.clamp(max=0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.neg().sigmoid_().mul_(grad)


def _mean_over(values: Tensor, valid: Tensor) -> Tensor:
    inside = valid.float()  # once: arithmetic with bool takes a CPU twice as long
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)


def _soft_areas(logits: Tensor, masks: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    probability = logits.sigmoid() * valid.float()
    true = (masks & valid).float()
    return (probability * true).flatten(1).sum(1), probability.flatten(1).sum(1), true.flatten(1).sum(1)
