"""A small convolutional decoder from the image embedding to maps."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.types import OBJECT


class MapHead(nn.Module):
    """Predicts maps of a whole image at the resolution of the mask decoder's logits, with skips from the pixels.

    A U-Net (Ronneberger et al. 2015) whose lower part is the image encoder: two steps up from the embedding, each with
    a light skip. 0.1 million parameters with the default widths; normalization by groups, which needs no batch.

    out_channels: maps · in_channels: of the embedding · widths: channels at s, 2s and 4s
    classes: {label: name} of the objects that follow from the maps
    """

    name: str  # before those of its parameters in a checkpoint
    classes: Mapping[int, str] = OBJECT

    def __init__(self, out_channels: int, in_channels: int = 256, widths: tuple[int, int, int] = (64, 32, 16)) -> None:
        super().__init__()
        low, middle, high = widths
        self.project = nn.Conv2d(in_channels, low, 1)
        self.block_low = _block(low, low)
        self.pixels_high = nn.Sequential(_block(3, high // 2), _block(high // 2, high // 2))
        self.pixels_middle = _block(high // 2, middle // 2, stride=2)
        self.block_middle = nn.Sequential(_block(low + middle // 2, middle), _block(middle, middle))
        self.block_high = nn.Sequential(_block(middle + high // 2, high), _block(high, high))
        self.out = nn.Conv2d(high, out_channels, 1)

    def forward(self, embedding: Tensor, images: Tensor) -> Tensor:
        """Predicts the logits of the maps.

        embedding: (B, 256, s, s) · images: (B, 3, S, S) uint8 RGB, padded; S is a multiple of 4s
        → (B, out_channels, 4s, 4s)
        """
        side = 4 * embedding.shape[-1]
        pixels = F.avg_pool2d(images.to(embedding.dtype) / 255, images.shape[-1] // side) - 0.5
        skip_high = self.pixels_high(pixels)
        skip_middle = self.pixels_middle(skip_high)
        x = self.block_low(self.project(embedding))
        x = self.block_middle(torch.cat([_twice(x), skip_middle], dim=1))
        return self.out(self.block_high(torch.cat([_twice(x), skip_high], dim=1)))

    def set_classes(self, classes: Mapping[int, str]) -> None:
        """Gives a head that predicts classes those of the data, before it learns; others find objects of any class."""

    def loss(self, logits: Tensor, maps: Tensor) -> Tensor:
        """The loss of each image: logits (B, C, 4s, 4s), targets (B, ., 4s, 4s), nan where they do not count → (B,)"""
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> Tensor:
        """The maps from 0 to 1 of their logits: (B, C, 4s, 4s) → the same shape"""
        return logits.sigmoid()


def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.GroupNorm(min(8, out_channels // 2), out_channels),
        nn.ReLU(),
    )


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
