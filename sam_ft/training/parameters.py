"""The parameters that learn, by name, and other values in their place for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sam_ft.adapt.lora_layer import is_factor


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that differ from those of the base checkpoint, by name.

    All that learn, all factors of `adapt.Lora`, and those that an earlier run trained, see `Sam.tuned`.
    """
    tuned: frozenset[str] = getattr(model, "tuned", frozenset())
    return {name: p for name, p in model.named_parameters() if p.requires_grad or is_factor(name) or name in tuned}


@contextmanager
def replaced(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which parameters have other values; afterwards they have their own again, bit for bit.

    The values are copied in, so the parameters stay the objects that the optimizer and the parallel wrapper hold.
    """
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    _copy(parameters, values)
    try:
        yield
    finally:
        _copy(parameters, own)


@torch.no_grad()
def _copy(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
