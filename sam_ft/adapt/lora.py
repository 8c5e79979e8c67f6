"""LoRA (Hu et al. 2021): low-rank updates of the image encoder's linear layers."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.adapt.freeze import Freeze
from sam_ft.adapt.last_blocks import last_unit_names
from sam_ft.models import Sam
from sam_ft.utils.errors import CheckpointError

Targets = Literal["qv", "qkv", "all"]
FACTORS = (".lora_a", ".lora_b")


class LoraLinear(nn.Linear):
    """A linear layer whose weight is  W + scale · B A,  with W frozen and the factors A and B learned.

    lora_a: A (rank, in), random · lora_b: B (rows, rank), zeros, so the layer starts as the plain one, bit for bit
    lora_rows: (rows,) the rows of W that B updates, or None for all · lora_options: as in a checkpoint's metadata

    An existing layer takes this class and keeps its tensors, so the official names stay: `nn.utils.parametrize` would
    rename W to "parametrizations.weight.original" and compute the gradient of a whole matrix. A wrapper as peft's would
    rename it too.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_rows: Tensor | None
    lora_options: dict[str, Any]
    lora_dropout: float

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            # Through the narrow rank: the gradient of W is never computed, which saves a third of the layer's time.
            # Dropout follows the gradient and not train(), for a model stays in eval mode (see `Freeze`).
            dropped = F.dropout(x, self.lora_dropout) if self.lora_dropout else x
            b = _scale(self.lora_options) * _on_rows(self.lora_b, self.lora_rows, self.out_features)
            return super().forward(x) + F.linear(F.linear(dropped, self.lora_a), b)
        # Exactly the weight that `load_partial_weights` merges, so a saved model scores as it did in validation.
        return F.linear(x, self.merged_weight(), self.bias)

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """W + scale · B A, without a graph."""
        b = _on_rows(self.lora_b, self.lora_rows, self.out_features)
        return _merge(self.weight.clone(), self.lora_a, b, _scale(self.lora_options))


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
        for name, count in (("rank", rank), ("blocks", blocks), ("stages", stages)):
            if count is not None and count < 1:
                raise ValueError(f"{name}={count}; expected a whole number of at least 1")
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha={alpha}; expected a number above 0")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}; expected a share from 0 to below 1")
        if targets not in ("qv", "qkv", "all"):
            raise ValueError(f"targets={targets}; expected qv, qkv or all")
        if blocks is not None and stages is not None:
            raise ValueError(f"blocks={blocks} and stages={stages}; set one of them, or null both for all blocks")
        Freeze(train, freeze)  # checks the patterns
        self.targets = targets
        self.options: dict[str, Any] = {"rank": rank, "alpha": float(alpha), "targets": targets}
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
        _remove_factors(model)  # of an earlier call
        for name, layer in encoder.named_modules():
            inside = any(name.startswith(f"{unit}.") for unit in units)
            if inside and isinstance(layer, nn.Linear) and (self.targets == "all" or name.endswith(".qkv")):
                self._add_factors(layer, _updated_rows(encoder, name, self.targets))
        Freeze([*self.train, *(f"image_encoder.*{factor}" for factor in FACTORS)], self.freeze)(model)

    def _add_factors(self, layer: nn.Linear, rows: Tensor | None) -> None:
        rank, weight = self.options["rank"], layer.weight
        layer.__class__ = LoraLinear
        assert isinstance(layer, LoraLinear)
        # Drawn on the CPU: the same numbers on every device.
        a = nn.init.kaiming_uniform_(torch.empty(rank, layer.in_features), a=5**0.5)  # as nn.Linear's own
        layer.lora_a = nn.Parameter(a.to(weight))
        layer.lora_b = nn.Parameter(weight.new_zeros(layer.out_features if rows is None else len(rows), rank))
        layer.register_buffer("lora_rows", None if rows is None else rows.to(weight.device), persistent=False)
        layer.lora_options, layer.lora_dropout = self.options, self.dropout


def is_factor(name: str) -> bool:
    """Whether a parameter of this name is a factor of an update."""
    return name.endswith(FACTORS)


def lora_options(model: nn.Module) -> dict[str, Any] | None:
    """The rank, alpha and targets of a model's updates, None if it has none."""
    return next((layer.lora_options for layer in model.modules() if isinstance(layer, LoraLinear)), None)


def merged_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model, with updates merged into the weights that they belong to."""
    state = {name: tensor for name, tensor in model.state_dict().items() if not is_factor(name)}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}
    return {**state, **{f"{name}.weight": layer.merged_weight() for name, layer in layers.items()}}


def check_factors_fit(model: Sam, factors: dict[str, Tensor], options: dict[str, Any]) -> None:
    """Checks that `merge_factors` can add updates to a model of plain layers.

    Raises:
        CheckpointError: a factor is alone, belongs to no linear layer, or has another shape.
    """
    layers = dict(model.named_modules())
    for name in _layers_of(factors):
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear):
            raise CheckpointError(f"the model has no linear layer called {name}")
        rows = _updated_rows(model, name, options["targets"])
        shapes = (
            (options["rank"], layer.in_features),
            (layer.out_features if rows is None else len(rows), options["rank"]),
        )
        for factor, shape in zip(FACTORS, shapes, strict=True):
            found = factors.get(name + factor)
            if found is None or found.shape != shape:
                came = "missing" if found is None else str(tuple(found.shape))
                raise CheckpointError(f"{name}{factor} is {came} in the file, {shape} in the model")


@torch.no_grad()
def merge_factors(model: Sam, factors: dict[str, Tensor], options: dict[str, Any]) -> None:
    """Adds  alpha / rank · B A  to the weights of a model of plain layers, in float32."""
    for name in _layers_of(factors):
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        a, b = (factors[name + factor].to(layer.weight) for factor in FACTORS)
        rows = _updated_rows(model, name, options["targets"])
        b = _on_rows(b, None if rows is None else rows.to(b.device), layer.out_features)
        _merge(layer.weight, a, b, _scale(options))


def _layers_of(factors: dict[str, Tensor]) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in factors})


def _scale(options: dict[str, Any]) -> float:
    return options["alpha"] / options["rank"]


def _merge(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Overwrites a weight with  W + scale · B A.  In place, where autocast does not round to bfloat16."""
    return weight.addmm_(b, a, alpha=scale)


def _on_rows(b: Tensor, rows: Tensor | None, out_features: int) -> Tensor:
    """B over all rows of the weight, zeros where it updates none: (rows, rank) → (out, rank)"""
    return b if rows is None else b.new_zeros(out_features, b.shape[1]).index_copy(0, rows, b)


def _updated_rows(root: nn.Module, name: str, targets: Targets) -> Tensor | None:
    """The rows of queries and values in the weight of the qkv layer of this name; None for all rows of a layer."""
    if targets != "qv":
        return None
    attention: Any = root.get_submodule(name.rpartition(".")[0])
    return attention.qkv_rows()[[0, 2]].flatten()


def _remove_factors(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            del layer.lora_a, layer.lora_b, layer.lora_rows, layer.lora_options, layer.lora_dropout
            layer.__class__ = nn.Linear  # type: ignore[assignment]
