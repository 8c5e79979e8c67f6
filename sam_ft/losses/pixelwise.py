"""Parts that look at each pixel alone: means over the valid pixels of an object, so size does not weight objects."""

import math

from torch import Tensor

from sam_ft.utils.cpu_kernels import dilate, log_sigmoid


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
