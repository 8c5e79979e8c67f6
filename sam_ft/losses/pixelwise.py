"""Parts that look at each pixel alone: means over the valid pixels of an object, so size does not weight objects."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Bce:
    """Binary cross-entropy: -log p, with p the probability that is given to what the pixel truly is."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        return -masked_mean(log_sigmoid(signed_logits(logits, masks)), valid)


class Focal:
    """-a (1 - p)^gamma log p, in which sure pixels hardly count (Lin et al. 2017).

    alpha: a on object pixels; it is 1 - alpha on the background

    Raises:
        ValueError: alpha outside 0 to 1, or a gamma that is neither 0 nor at least 1
    """

    def __init__(self, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0):
        if not 0 <= alpha <= 1:
            raise ValueError(f"Focal: alpha={alpha}; expected a share from 0 to 1")
        if gamma != 0 and not 1 <= gamma < math.inf:
            # the slope of x^gamma at a pixel that is quite sure, x = 0, would be infinite
            raise ValueError(f"Focal: gamma={gamma}; expected 0 (plain cross-entropy) or a finite number of at least 1")
        self.weight = weight
        self.alpha = alpha
        self.gamma = gamma

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        logits = signed_logits(logits, masks)
        balance = masks.float().mul_(2 * self.alpha - 1).add_(1 - self.alpha)
        return -masked_mean((-logits).sigmoid() ** self.gamma * log_sigmoid(logits) * balance, valid)


class BoundaryBce:
    """Binary cross-entropy of the pixels near the true edge alone; `Bce` beside it looks after the rest.

    width: in pixels of a 1024 input, at least one of the actual. A pixel is near if the square that reaches this far
        from it in each direction holds object and background. So the image's border and pixels that are not valid
        make no edge, and an object without any edge, such as the whole image, has a loss of 0.

    Raises:
        ValueError: a width that is not above 0
    """

    def __init__(self, weight: float = 1.0, width: float = 8.0):
        if not 0 < width < math.inf:
            raise ValueError(f"BoundaryBce: width={width}; expected a finite number above 0, in pixels of a 1024 input")
        self.weight = weight
        self.width = width

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        reach = max(1, round(self.width * masks.shape[-1] / 1024))
        near = dilate(masks & valid, reach) & dilate(~masks & valid, reach) & valid
        return -masked_mean(log_sigmoid(signed_logits(logits, masks)), near)


def signed_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits of "object" turned into those of what the pixel truly is, so that log p is their log sigmoid."""
    return logits * masks.float().mul_(2).sub_(1)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Each object's mean over the pixels that are valid, (M,); 0 where none is."""
    inside = valid.float()  # once: arithmetic with bool takes a CPU twice as long
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)


def dilate(pixels: Tensor, reach: int) -> Tensor:
    """True where a true pixel lies at most `reach` rows and columns away, (M, S, S) bool.

    Shifted copies are dihedral over each other, which on a CPU takes a hundredth of the time of a max-pooling.
    """
    side = pixels.shape[-1]
    reach = min(reach, side)
    for axis in (1, 2):
        done = 0
        while done < reach:
            step = min(2 * done + 1, reach - done)  # a longer one would leave gaps between the copies
            wider = pixels.clone()
            wider.narrow(axis, step, side - step).logical_or_(pixels.narrow(axis, 0, side - step))
            wider.narrow(axis, 0, side - step).logical_or_(pixels.narrow(axis, step, side - step))
            pixels, done = wider, done + step
    return pixels


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), to 6e-8 where that is more than its own precision; like x, float32.

    On a CPU without log1p, of which torch has no vectorized kernel there: it takes four times as long as all of this.
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
