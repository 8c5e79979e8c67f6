"""Less memory for an encoder's blocks: run in bands where it only predicts, and twice where it learns."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# In a band, 256 cells wide with 256 channels: 16 MB. What is above 32 MB, malloc maps and zeroes anew for each tensor:
# without bands TinyViT takes a third longer, or the same after `keep_freed_memory`, and twice the memory.
ROWS = 64


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether no gradient is wanted and the time goes to memory: then large tensors are best made part by part."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def in_bands(function: Callable[[Tensor], Tensor], x: Tensor, reach: int = 0, stride: int = 1) -> Tensor:
    """function(x), for one image and some rows at a time where `predicts_on_cpu`.

    function: (B, C, H, W) → (B, C', H / stride, W / stride), which looks at most `reach` rows up and down
    reach: a multiple of `stride`
    """
    if not predicts_on_cpu(x):
        return function(x)
    if len(x) > 1:
        return torch.cat([in_bands(function, image, reach, stride) for image in x.split(1)])
    bands = []
    for y in range(0, x.shape[2], ROWS):
        top = max(y - reach, 0)
        band = function(x[:, :, top : y + ROWS + reach])
        bands.append(band[:, :, (y - top) // stride : (y - top + ROWS) // stride])
    return torch.cat(bands, dim=2)


def run(module: nn.Module, x: Tensor, activation_checkpointing: bool) -> Tensor:
    """module(x); with `activation_checkpointing`, the backward pass computes the activations again."""
    if activation_checkpointing and torch.is_grad_enabled():
        return checkpoint(module, x, use_reentrant=False, preserve_rng_state=False)  # nothing here is random
    return module(x)
