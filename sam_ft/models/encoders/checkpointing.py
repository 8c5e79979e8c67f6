"""Activation checkpointing: less memory for an encoder's blocks, which run twice where they learn."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run(module: nn.Module, x: Tensor, activation_checkpointing: bool) -> Tensor:
    """module(x); with `activation_checkpointing`, the backward pass computes the activations again."""
    if activation_checkpointing and torch.is_grad_enabled():
        return checkpoint(module, x, use_reentrant=False, preserve_rng_state=False)  # nothing here is random
    return module(x)
