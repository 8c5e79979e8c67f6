"""The head that predicts the maps from which instances follow without prompts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_ft.models.heads.map_head import MapHead

BACKGROUND_WEIGHT = 0.1  # of the distance maps, which are 0 there: enough that no center appears in the background


class InstanceHead(MapHead):
    """Predicts foreground, center and boundary of `instances.maps.instance_maps`, as logits."""

    name = "instance_head"

    def __init__(self) -> None:
        super().__init__(out_channels=3)

    def loss(self, logits: Tensor, maps: Tensor) -> Tensor:
        """Cross-entropy and Dice of the foreground, and cross-entropy of the two distance maps, of each image.

        logits, maps: (B, 3, 4s, 4s); maps are nan where they do not count → (B,)

        The distance maps are soft targets in [0, 1]; objects weigh ten times the background, where they are 0. Without
        an object Dice is left out: it would be 1 for the faintest foreground.
        """
        weight = maps[:, 0].isfinite().to(logits.dtype)
        maps = maps.nan_to_num()
        foreground, distances = maps[:, 0], maps[:, 1:]
        cross_entropy = F.binary_cross_entropy_with_logits(logits, maps, reduction="none")
        on_objects = weight * (BACKGROUND_WEIGHT + foreground)
        predicted = logits[:, 0].sigmoid() * weight
        overlap = 2 * (predicted * foreground).sum(dim=(1, 2)) + 1
        areas = foreground.sum(dim=(1, 2))
        dice = (1 - overlap / (predicted.sum(dim=(1, 2)) + areas + 1)) * (areas > 0)
        distance = _weighted_mean(cross_entropy[:, 1:], on_objects[:, None].expand_as(distances))
        return _weighted_mean(cross_entropy[:, :1], weight[:, None]) + dice + distance


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over all but the first axis; 0 without any weight."""
    axes = tuple(range(1, values.ndim))
    return (values * weights).sum(axes) / weights.sum(axes).clamp(min=torch.finfo(weights.dtype).tiny)
