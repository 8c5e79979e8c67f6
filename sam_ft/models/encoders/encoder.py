"""The base of all image encoders: a chain of units, cut in two by the parameters that learn."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sam_ft.types import Features


class Unit(NamedTuple):
    """One step of an encoder: (B, C, h, w) → (B, C', h', w').

    names: the modules and parameters of the encoder that belong to it
    """

    names: tuple[str, ...]
    run: Callable[[Tensor], Tensor]

    def holds(self, name: str) -> bool:
        """Whether the parameter or buffer of this name belongs to the unit."""
        return any(name == own or name.startswith(own + ".") for own in self.names)


class ImageEncoder(nn.Module):
    """A chain of units, which is all that `ImageEncoderViT` and `TinyViT` have in common.

    The cut lies before the first unit that holds a learning parameter. The prefix, all units before it, gives the same
    features for an image in every step, so they can be cached. The suffix, the units after it, runs in each step.

    activation_checkpointing: keep only the maps between units, and run each unit again in the backward pass
    """

    activation_checkpointing = False

    def units(self) -> list[Unit]:
        """All steps in order. Every parameter and buffer that the encoder reads belongs to one of them."""
        raise NotImplementedError

    @property
    def cut(self) -> int:
        """The number of units in the prefix: 0 if the first one learns, all of them if nothing learns."""
        # Found anew at each call: what learns may change, as by `adapt.Freeze`.
        learning = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        units = self.units()
        return next((i for i, unit in enumerate(units) if any(map(unit.holds, learning))), len(units))

    def prefix(self, images: Tensor, cut: int | None = None) -> Features:
        """images: (B, 3, S, S) normalized → the map at the cut; `cut` replaces the encoder's own."""
        cut = self.cut if cut is None else cut
        return Features((self(images, 0, cut) if cut else images,))  # without a prefix, the pixels are the map

    def suffix(self, features: Features, cut: int | None = None) -> Features:
        """features: of `prefix`, with the same `cut` → (embedding (B, out_channels, s, s),)"""
        cut, end = self.cut if cut is None else cut, len(self.units())
        if cut == end:
            return features
        # The memory order of a cached map may be another one; results must not depend on it.
        (x,) = features.maps
        return Features((self(x.contiguous(memory_format=torch.channels_last), cut, end),))

    def prefix_state(self) -> dict[str, Tensor]:
        """The parameters and persistent buffers of the prefix by their names in the encoder."""
        prefix = self.units()[: self.cut]
        return {name: tensor for name, tensor in self.state_dict().items() if any(unit.holds(name) for unit in prefix)}

    def forward(self, x: Tensor, start: int = 0, end: int | None = None) -> Tensor:
        """Runs the units `start` to `end` - 1, by default all of them: images → embedding (B, out_channels, s, s).

        Prefix and suffix pass through here too, so that hooks and torch.compile apply to them.
        """
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        for unit in self.units()[start:end]:
            x = checkpoint(unit.run, x, use_reentrant=False) if recompute else unit.run(x)
        return x
