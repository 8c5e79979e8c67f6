"""Pixelwise terms: means over the valid pixels of each object, so that large objects weigh no more than small ones."""

import math

from torch import Tensor

from sam_ft.utils.cpu_kernels import dilate, log_sigmoid


class Bce:
    """Binary cross-entropy: -log p, with p the predicted probability of the gt class of the pixel."""

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        return -masked_mean(log_sigmoid(signed_logits(logits, masks)), valid)


class Focal:
    """Focal loss -a (1 - p)^gamma log p, which discounts pixels that are easy (Lin et al. 2017).

    alpha: a on object pixels; a is 1 - alpha on the background

    Raises:
        ValueError: alpha outside 0 to 1, or a gamma that is neither 0 nor at least 1
    """

    def __init__(self, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0):
        if not 0 <= alpha <= 1:
            raise ValueError(f"Focal: alpha={alpha}; expected a number from 0 to 1")
        if gamma != 0 and not 1 <= gamma < math.inf:
            # x^gamma has an infinite slope at x = 0, a pixel of probability 1
            raise ValueError(f"Focal: gamma={gamma}; expected 0 (plain cross-entropy) or a finite number of at least 1")
        self.weight = weight
        self.alpha = alpha
        self.gamma = gamma

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        logits = signed_logits(logits, masks)
        # alpha on object pixels, 1 - alpha on the background, without a branch.
        balance = masks.float().mul_(2 * self.alpha - 1).add_(1 - self.alpha)
        # sigmoid(-x) = 1 - p
        return -masked_mean((-logits).sigmoid() ** self.gamma * log_sigmoid(logits) * balance, valid)


class BoundaryBce:
    """Binary cross-entropy of the pixels near the edge of the gt mask; combine it with `Bce` for all other pixels.

    width: in pixels of a 1024 input, scaled to the input side and at least 1. A pixel is near the edge if the square
        within `width` of it holds valid object and valid background. So the image's border and invalid pixels form no
        edge, and an object without an edge, such as the whole image, has a loss of 0.

    Raises:
        ValueError: width is not above 0
    """

    def __init__(self, weight: float = 1.0, width: float = 8.0):
        if not 0 < width < math.inf:
            raise ValueError(f"BoundaryBce: width={width}; expected a finite number above 0, in pixels of a 1024 input")
        self.weight = weight
        self.width = width

    def __call__(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        # Near the edge: an object pixel within reach, and a background pixel too.
        reach = max(1, round(self.width * masks.shape[-1] / 1024))
        near = dilate(masks & valid, reach) & dilate(~masks & valid, reach) & valid
        return -masked_mean(log_sigmoid(signed_logits(logits, masks)), near)


def signed_logits(logits: Tensor, masks: Tensor) -> Tensor:
    """Logits of the gt class of each pixel: negated on background, so that log p is their log sigmoid."""
    return logits * masks.float().mul_(2).sub_(1)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean over the valid pixels of each object, (M,); 0 without any."""
    inside = valid.float()  # once: arithmetic with bool takes a CPU twice as long
    return (values * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
