"""LoRA (Hu et al. 2021): low-rank updates of the image encoder's linear layers."""

from collections.abc import Sequence

import torch
from torch import nn

from sam_ft.adapt.freeze import Freeze
from sam_ft.adapt.last_blocks import last_unit_names
from sam_ft.adapt.lora_layer import (
    FACTORS,
    LoraOptions,
    Targets,
    factor_shapes,
    remove_factors,
    set_factors,
    targeted_layers,
)
from sam_ft.models import Sam


class Lora:
    """Trains low-rank updates of linear layers in the image encoder, and the parameters that match `train`.

    Blocks before the first one with an update are frozen, so their output is computed once for each image and cached.

    rank: of the updates · alpha: they are scaled by alpha / rank · dropout: of the input of A in training, from 0 to
        below 1; 1 and 2 processes then drop other values
    targets: "qv" (queries and values, as in the paper), "qkv", or "all" linear layers: also proj and the MLP
    blocks, stages: the last ones that get updates, as of `LastBlocks`; both None for all
    train, freeze: patterns as of `Freeze`; the factors are called lora_a and lora_b

    Raises:
        ValueError: an option is out of range, or both `blocks` and `stages` are given.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Targets = "all",
        blocks: int | None = None,
        stages: int | None = None,
        train: Sequence[str] = ("mask_decoder.*",),
        freeze: Sequence[str] = (),
    ) -> None:
        self.options = LoraOptions(rank, alpha, targets)
        for name, count in (("blocks", blocks), ("stages", stages)):
            if count is not None and count < 1:
                raise ValueError(f"{name}={count}; expected a whole number of at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}; expected a share from 0 to below 1")
        if blocks is not None and stages is not None:
            raise ValueError(f"blocks={blocks} and stages={stages}; set one of them, or null both for all blocks")
        Freeze(train, freeze)  # checks the patterns
        self.dropout = dropout
        self.blocks = blocks
        self.stages = stages
        self.train = list(train)
        self.freeze = list(freeze)

    def __call__(self, model: Sam) -> None:
        """Adds the factors and marks the parameters as `Freeze` does. Raises: ConfigError"""
        encoder = model.image_encoder
        if self.blocks is None and self.stages is None:
            units = [name for unit in encoder.units() for name in unit.names]
        else:
            units = last_unit_names(encoder, self.blocks, self.stages)
        remove_factors(model)  # of an earlier call
        for name in targeted_layers(model, self.options):
            if any(name.startswith(f"image_encoder.{unit}.") for unit in units):
                shape_a, shape_b = factor_shapes(model, name, self.options)
                # Drawn on the CPU: the same numbers on every device.
                a = nn.init.kaiming_uniform_(torch.empty(shape_a), a=5**0.5)  # as nn.Linear's own
                set_factors(model, name, a, torch.zeros(shape_b), self.options, self.dropout)
        Freeze([*self.train, *(f"image_encoder.*{factor}" for factor in FACTORS)], self.freeze)(model)
