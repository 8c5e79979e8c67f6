"""A small U-Net from scratch, beside which the head is timed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.discs import disc_ids, draw_discs
from sam_ft.instances.maps import instance_maps
from sam_ft.models.heads import InstanceHead


class UNet(nn.Module):
    """Ronneberger et al. 2015, with three levels, group normalization and padding: (B, 3, H, W) uint8 → 3 logits."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(block(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(block(2 * b, b) for _, b in pairs)
        self.out = nn.Conv2d(widths[0], 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        x, skips = images.float() / 255 - 0.5, []
        for level, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for grow, up, skip in zip(self.grow, self.up, skips[-2::-1], strict=True):
            x = up(torch.cat([grow(x), skip], dim=1))
        return self.out(x)


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    pairs = ((in_channels, out_channels), (out_channels, out_channels))
    layers = ((nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(8, b), nn.ReLU()) for a, b in pairs)
    return nn.Sequential(*(layer for three in layers for layer in three))


def train_on_discs(network: UNet, steps: int, tile: int, cell: int) -> None:
    """Trains until the watershed has about as many objects as there are: noise would take it longer."""
    torch.manual_seed(0)
    optimizer, criterion = torch.optim.AdamW(network.parameters(), lr=2e-3), InstanceHead()
    for step in range(steps):
        windows = [(slice(480 * step, 480 * step + tile), slice(x, x + tile)) for x in (0, 480)]
        images = torch.from_numpy(np.stack([draw_discs(*window, cell) for window in windows]))
        maps = torch.from_numpy(np.stack([instance_maps(disc_ids(*window, cell)) for window in windows]))
        loss = criterion.loss(network(images[:, None].expand(-1, 3, -1, -1)), maps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
