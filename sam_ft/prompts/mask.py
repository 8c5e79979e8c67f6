"""A coarse mask of each object, like the prediction of a weaker model."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.ground_truth import ground_truth
from sam_ft.prompts.noise import normal
from sam_ft.types import Batch, Prompts

LOGIT_SCALE = 8.0  # logit of a pixel far inside, about as in SAM's own logits
MASK_SIDE = 256  # of the masks that SAM takes as prompts; models of other sizes resize them
NOISE_GRID = 8  # the noise bends outlines in waves of about an eighth of the input


class Mask(Prompter):
    """Prompts with low-resolution logits of the blurred ground truth, whose outline is bent at random.

    blur: standard deviation of the blur, in pixels of a 1024 input
    noise: standard deviation of the smooth noise added to the coverage (0 to 1) before it becomes logits; together
        with the blur it bends the outline
    """

    def __init__(self, blur: float = 16.0, noise: float = 0.2) -> None:
        if blur < 0 or noise < 0:
            raise ValueError(f"blur={blur} and noise={noise}; expected numbers of at least 0")
        self.blur = blur
        self.noise = noise

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        """masks: (M, 1, 256, 256) logits over the padded input"""
        gt = ground_truth(batch)
        # The share of each cell that the mask covers, over the padded input.
        h, w = (max(1, round(length * MASK_SIDE / batch.image_size)) for length in gt.input_size)
        inside = F.pad(F.adaptive_avg_pool2d(gt.masks[:, None].float(), (h, w)), (0, MASK_SIDE - w, 0, MASK_SIDE - h))
        inside = _blurred(inside, self.blur * MASK_SIDE / 1024)
        if self.noise:
            field = normal(batch, seed, "mask", NOISE_GRID**2).unflatten(1, (1, NOISE_GRID, NOISE_GRID))
            inside = inside + self.noise * F.interpolate(field, (MASK_SIDE, MASK_SIDE), mode="bicubic")
        return Prompts(masks=LOGIT_SCALE * (2 * inside - 1))


def _blurred(pictures: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of (M, 1, H, W), first along x, then along y."""
    if deviation == 0:
        return pictures
    reach = max(1, round(3 * deviation))
    places = torch.arange(-reach, reach + 1, device=pictures.device)
    kernel = (-0.5 * (places / deviation) ** 2).exp()
    kernel = (kernel / kernel.sum())[None, None, None]
    pictures = F.conv2d(pictures, kernel, padding=(0, reach))
    return F.conv2d(pictures, kernel.transpose(2, 3), padding=(reach, 0))
