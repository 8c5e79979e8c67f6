"""AdamW over the trained parameters, and learning rate schedules."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from sam_ft.adapt.lora_layer import is_factor
from sam_ft.models import Sam
from sam_ft.models.heads import in_head


def adamw(
    model: Sam,
    lr: float = 1e-4,
    lr_factors: Sequence[tuple[str, float]] = (),
    lora_lr_factor: float = 10.0,
    head_lr_factor: float = 20.0,
    layer_decay: float | None = None,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW over the trained parameters (requires_grad) of `model`.

    lr_factors: (pattern, factor) pairs: a shell-style pattern on parameter names such as "image_encoder.*", and a
        factor on their lr; the first matching pattern applies. AdamW multiplies weight decay by the lr, so the factor
        scales it too
    lora_lr_factor: the same for the factors of `adapt.Lora` that match no pattern of lr_factors
    head_lr_factor: the same for the parameters of a head, which begin at random
    layer_decay: factor on the lr from each unit of the image encoder to the one before it, see `layer_factors`;
        multiplies with the others. None: 1

    Raises:
        ValueError: lr_factors are not such pairs, a pattern matches no parameter, a factor is not above 0, betas are
            not two numbers in [0, 1), or layer_decay is not in (0, 1]
    """
    check_betas(betas)
    check_lr_factors([name for name, _ in model.named_parameters()], lr_factors)
    for option, factor in (("lora_lr_factor", lora_lr_factor), ("head_lr_factor", head_lr_factor)):
        if not 0 < factor < math.inf:
            raise ValueError(f"{option}={factor}; expected a number above 0")
    factors = layer_factors(model, 1.0 if layer_decay is None else layer_decay)
    for name in factors:
        default = lora_lr_factor if is_factor(name) else head_lr_factor if in_head(name) else 1.0
        factors[name] *= next((factor for pattern, factor in lr_factors if fnmatchcase(name, pattern)), default)
    groups = parameter_groups(model, lr, factors, weight_decay)
    # fused: one kernel instead of ten per parameter
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), fused=True)


def check_betas(betas: tuple[float, float]) -> None:
    # type() and not isinstance: true is an int to Python.
    valid = isinstance(betas, list | tuple) and all(type(beta) in (int, float) and 0 <= beta < 1 for beta in betas)
    if not valid or len(betas) != 2:
        raise ValueError(f"betas={betas}; expected two numbers from 0 to below 1, such as [0.9,0.999]")


def check_lr_factors(names: Sequence[str], lr_factors: Sequence[tuple[str, float]]) -> None:
    if not isinstance(lr_factors, list | tuple) or not all(_is_lr_factor(pair) for pair in lr_factors):
        raise ValueError(f'lr_factors={lr_factors}; expected a list of pairs such as ["image_encoder.*",0.1]')
    for pattern, _ in lr_factors:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f'lr_factors={lr_factors}: no parameter is called "{pattern}"')


def _is_lr_factor(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    pattern, factor = pair
    return isinstance(pattern, str) and type(factor) in (int, float) and 0 < factor < math.inf


def layer_factors(model: Sam, layer_decay: float) -> dict[str, float]:
    """Layer-wise lr decay (ELECTRA, Clark et al. 2020; BEiT, Bao et al. 2021): a factor for each parameter by name.

    layer_decay to the power of the distance from the encoder's last unit, its neck; 1 for the neck and all that is not
    the encoder. timm's `param_groups_layer_decay` needs a `group_matcher` of patterns for each architecture;
    `ImageEncoder.units` is that order already.

    Raises:
        ValueError: layer_decay is not in (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay={layer_decay}; expected a number above 0, up to 1, or null")
    factors = {name: 1.0 for name, _ in model.named_parameters()}
    units = model.image_encoder.units()
    for name, _ in model.image_encoder.named_parameters():
        place = next(i for i, unit in enumerate(units) if unit.holds(name))
        factors[f"image_encoder.{name}"] = layer_decay ** (len(units) - 1 - place)
    return factors


def parameter_groups(model: Sam, lr: float, factors: Mapping[str, float], weight_decay: float) -> list[dict]:
    """Groups the trained parameters by learning rate and weight decay.

    Weight decay applies to matrices and convolution kernels, not to biases, norms, learned tokens (nn.Embedding) and
    position embeddings.

    factors: on the lr, by the parameter's name
    """
    # By identity: their names have no common ending.
    tokens = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    positions = ("pos_embed", "rel_pos_h", "rel_pos_w", "attention_biases")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            decayed = p.ndim >= 2 and id(p) not in tokens and not name.endswith(positions)
            groups.setdefault((lr * factors[name], weight_decay if decayed else 0.0), []).append(p)
    ordered = sorted(groups, reverse=True)  # by falling lr, with decay first
    return [{"params": groups[rate, decay], "lr": rate, "weight_decay": decay} for rate, decay in ordered]


class WarmupCosine:
    """Factor on the learning rate: linear warmup from 0 to 1, then cosine decay to `final` at the last step."""

    def __init__(self, warmup_fraction: float = 0.05, final: float = 0.01):
        check_warmup(warmup_fraction)
        self.warmup_fraction = warmup_fraction
        self.final = final

    def __call__(self, step: int, total_steps: int) -> float:
        """step: from 0; steps beyond total_steps, of a run that goes on for more epochs, keep the last factor"""
        warmup = max(1, round(self.warmup_fraction * total_steps))
        if step < warmup:
            return (step + 1) / warmup  # + 1: the first step already learns
        # From just above 0 at the first step after warmup to 1 at the last one.
        progress = (step - warmup + 1) / max(1, total_steps - warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Constant:
    """Factor on the learning rate: linear warmup from 0 to 1, then constant."""

    def __init__(self, warmup_fraction: float = 0.05):
        check_warmup(warmup_fraction)
        self.warmup_fraction = warmup_fraction

    def __call__(self, step: int, total_steps: int) -> float:
        return min(1.0, (step + 1) / max(1, round(self.warmup_fraction * total_steps)))


def check_warmup(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"warmup_fraction={fraction}; expected a fraction of all steps, from 0 to 1")


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Sets the lr of every group to its initial value times `factor`; returns the base lr times `factor`."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # at the first call, before anything has scaled it
        group["lr"] = group["initial_lr"] * factor
    return optimizer.defaults["lr"] * factor
