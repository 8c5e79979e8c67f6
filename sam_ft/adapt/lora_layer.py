"""The layer of `adapt.Lora`: a linear layer with a low-rank update of its weight."""

import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models import Sam

Targets = Literal["qv", "qkv", "all"]
FACTORS = (".lora_a", ".lora_b")


@dataclass(frozen=True)
class LoraOptions:
    """What merging needs to know of a model's updates, as a checkpoint's metadata holds it.

    Raises:
        ValueError: an option is out of range.
    """

    rank: int
    alpha: float
    targets: Targets

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(f"rank={self.rank}; expected a whole number of at least 1")
        # The largest float and not inf: a number in a file may be a whole number of any length.
        if type(self.alpha) not in (int, float) or not 0 < self.alpha <= sys.float_info.max:
            raise ValueError(f"alpha={self.alpha}; expected a number above 0")
        if self.targets not in get_args(Targets):
            raise ValueError(f"targets={self.targets}; expected qv, qkv or all")

    @property
    def scale(self) -> float:
        """Of the product B A."""
        return self.alpha / self.rank

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


class LoraLinear(nn.Linear):
    """A linear layer whose weight is  W + scale · B A,  with W frozen and the factors A and B learned.

    lora_a: A (rank, in), random · lora_b: B (rows, rank), zeros, so the layer starts as the plain one, bit for bit
    lora_rows: (rows,) the rows of W that B updates, or None for all

    An existing layer takes this class and keeps its tensors, so the official names stay: `nn.utils.parametrize` would
    rename W to "parametrizations.weight.original" and compute the gradient of a whole matrix. A wrapper as peft's would
    rename it too.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    lora_rows: Tensor | None
    lora_options: LoraOptions
    lora_dropout: float

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            # Through the narrow rank: the gradient of W is never computed, which saves a third of the layer's time.
            # Dropout follows the gradient and not train(), for a model stays in eval mode (see `Freeze`).
            dropped = F.dropout(x, self.lora_dropout) if self.lora_dropout else x
            update = F.linear(F.linear(dropped, self.lora_a), self.lora_options.scale * self._b())
            return super().forward(x) + update
        # Exactly the weight that `load_partial_weights` merges, so a saved model scores as it did in validation.
        return F.linear(x, self.merged_weight(), self.bias)

    @torch.no_grad()
    def merged_weight(self) -> Tensor:
        """W + scale · B A, without a graph."""
        # In place, where autocast does not round to bfloat16.
        return self.weight.clone().addmm_(self._b(), self.lora_a, alpha=self.lora_options.scale)

    def _b(self) -> Tensor:
        """B over all rows of the weight, zeros where it updates none: (rows, rank) → (out, rank)"""
        b, rows = self.lora_b, self.lora_rows
        return b if rows is None else b.new_zeros(self.out_features, b.shape[1]).index_copy(0, rows, b)


def set_factors(model: Sam, name: str, a: Tensor, b: Tensor, options: LoraOptions, dropout: float = 0.0) -> None:
    """Gives the linear layer of this name an update of these factors, which have its `factor_shapes`."""
    layer: Any = model.get_submodule(name)
    layer.__class__ = LoraLinear
    layer.lora_a, layer.lora_b = nn.Parameter(a.to(layer.weight)), nn.Parameter(b.to(layer.weight))
    layer.register_buffer("lora_rows", _updated_rows(model, name, options), persistent=False)
    layer.lora_options, layer.lora_dropout = options, dropout


def remove_factors(model: nn.Module) -> None:
    """Turns all layers with an update into plain ones, without merging it."""
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            del layer.lora_a, layer.lora_b, layer.lora_rows, layer.lora_options, layer.lora_dropout
            layer.__class__ = nn.Linear  # type: ignore[assignment]


def is_factor(name: str) -> bool:
    """Whether a parameter of this name is a factor of an update."""
    return name.endswith(FACTORS)


def lora_options(model: nn.Module) -> LoraOptions | None:
    """The options of a model's updates, None if it has none."""
    return next((layer.lora_options for layer in model.modules() if isinstance(layer, LoraLinear)), None)


def targeted_layers(model: Sam, options: LoraOptions) -> dict[str, nn.Linear]:
    """The linear layers of the image encoder that can have an update, by name."""
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    end = "" if options.targets == "all" else ".qkv"
    return {name: layer for name, layer in linear.items() if name.startswith("image_encoder.") and name.endswith(end)}


def factor_shapes(model: Sam, name: str, options: LoraOptions) -> tuple[tuple[int, int], tuple[int, int]]:
    """The shapes of A and B of the linear layer of this name."""
    layer, rows = model.get_submodule(name), _updated_rows(model, name, options)
    assert isinstance(layer, nn.Linear)
    return (options.rank, layer.in_features), (layer.out_features if rows is None else len(rows), options.rank)


def _updated_rows(model: Sam, name: str, options: LoraOptions) -> Tensor | None:
    """The rows of queries and values in the weight of the qkv layer of this name; None for all rows of a layer."""
    if options.targets != "qv":
        return None
    attention: Any = model.get_submodule(name.rpartition(".")[0])
    return attention.qkv_rows()[[0, 2]].flatten().to(model.device)
