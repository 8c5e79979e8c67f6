"""What steps the weights: AdamW over the trained parameters, and the learning rate at each step."""

import math

import torch
from torch import nn


def adamw(
    model: nn.Module,
    lr: float = 1e-4,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.AdamW:
    """AdamW over the parameters of `model` that are trained (requires_grad)."""
    groups = parameter_groups(model, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), fused=True)  # one kernel, not ten a parameter


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trained parameters in two groups: matrices and kernels are decayed; biases, norms and tables are not.

    Tables are the learned tokens (nn.Embedding) and the position tables: pulling them to zero would make them forget
    what they mark.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    tokens = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    positions = ("pos_embed", "rel_pos_h", "rel_pos_w", "attention_biases")
    decayed = [p for name, p in trained if p.ndim >= 2 and id(p) not in tokens and not name.endswith(positions)]
    marked = {id(p) for p in decayed}
    rest = [p for _, p in trained if id(p) not in marked]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


class WarmupCosine:
    """Factor on the learning rate: linear from 0 to 1, then half a cosine down to `final`, over all steps of a run."""

    def __init__(self, warmup_fraction: float = 0.05, final: float = 0.01):
        self.warmup_fraction = warmup_fraction
        self.final = final

    def __call__(self, step: int, total_steps: int) -> float:
        """The factor for step `step` in 0 .. total_steps - 1."""
        warmup = max(1, round(self.warmup_fraction * total_steps))
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup + 1) / max(1, total_steps - warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Constant:
    """Factor on the learning rate: 1 at every step after a linear warmup."""

    def __init__(self, warmup_fraction: float = 0.05):
        self.warmup_fraction = warmup_fraction

    def __call__(self, step: int, total_steps: int) -> float:
        return min(1.0, (step + 1) / max(1, round(self.warmup_fraction * total_steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Sets every group to its first learning rate times `factor`; returns the first group's new one."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
    return optimizer.param_groups[0]["lr"]
