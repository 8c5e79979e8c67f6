"""Merges the updates of `adapt.Lora` into the weights of linear layers."""

from typing import Any

import torch
from torch import Tensor, nn

from sam_ft.adapt.lora_layer import (
    FACTORS,
    LoraLinear,
    LoraOptions,
    factor_shapes,
    is_factor,
    remove_factors,
    set_factors,
    targeted_layers,
)
from sam_ft.models import Sam
from sam_ft.utils.errors import CheckpointError


def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model, with updates merged into the weights that they belong to."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not is_factor(name)}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}
    return {**state, **{f"{name}.weight": layer.merged_weight() for name, layer in layers.items()}}


def read_lora_options(found: Any) -> LoraOptions | None:
    """The options in a checkpoint's metadata, which anyone may have written. Raises: CheckpointError"""
    if found is None:
        return None
    try:
        return LoraOptions(**found)
    except TypeError:  # other names, or no mapping
        raise CheckpointError(f"its metadata has lora={found}; expected rank, alpha and targets") from None
    except ValueError as error:
        raise CheckpointError(f"its metadata has lora with {error}") from None


def check_factors_fit(model: Sam, factors: dict[str, Tensor], options: LoraOptions) -> None:
    """Checks that `merge_factors` can add updates to a model of plain layers.

    Raises:
        CheckpointError: a factor is alone, belongs to no layer that can have an update, or has another shape.
    """
    layers = targeted_layers(model, options)
    for name in _layers_of(factors):
        if name not in layers:
            raise CheckpointError(f"{name} is no layer of this model that targets={options.targets} updates")
        for factor, shape in zip(FACTORS, factor_shapes(model, name, options), strict=True):
            found = factors.get(name + factor)
            if found is None or found.shape != shape:
                came = "missing" if found is None else str(tuple(found.shape))
                raise CheckpointError(f"{name}{factor} is {came} in the file, {shape} in the model")


@torch.no_grad()
def merge_factors(model: Sam, factors: dict[str, Tensor], options: LoraOptions) -> None:
    """Adds  alpha / rank · B A  to the weights of a model of plain layers, in float32."""
    for name in _layers_of(factors):
        a, b = (factors[name + factor] for factor in FACTORS)
        set_factors(model, name, a, b, options)
        layer: Any = model.get_submodule(name)
        layer.weight.copy_(layer.merged_weight())
    remove_factors(model)


def _layers_of(factors: dict[str, Tensor]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in factors})
