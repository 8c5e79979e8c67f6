"""A mixture of several kinds of prompts, drawn at random."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.noise import uniform
from sam_ft.types import Batch, Prompts
from sam_ft.utils.seeds import derive_seed


class Mixed(Prompter):
    """Draws one of several prompters for each object.

    weights: how often each is drawn, in proportion
    per: "object": drawn for each object on its own; "batch": one for all objects of a training step
    """

    def __init__(self, prompters: Sequence[Prompter], weights: Sequence[float], per: str = "object") -> None:
        if len(prompters) != len(weights) or min(weights, default=-1.0) < 0 or not sum(weights):
            raise ValueError(
                f"weights={list(weights)} for {len(prompters)} prompters; expected one number of at least 0 for each"
            )
        if per not in ("object", "batch"):
            raise ValueError(f"per={per}; expected object or batch")
        self.prompters = list(prompters)
        self.weights = list(weights)
        self.per = per
        self.drawn = [prompter for prompter, weight in zip(prompters, weights, strict=True) if weight]
        self.rounds = max(prompter.rounds for prompter in self.drawn)

    def split(self, batch: Batch, seed: int) -> list[tuple[Prompter, Tensor]]:
        # (M,) numbers in [0, 1), each falling into the share of one prompter.
        if self.per == "object":
            shares = uniform(batch, seed, "mixed", 1)[:, 0]
        else:
            shares = torch.full_like(batch.image_index, derive_seed(seed, "mixed") / 2**63, dtype=torch.float64)
        limits = torch.tensor(np.cumsum(self.weights) / sum(self.weights), device=shares.device)
        # right: a prompter of weight 0 is never chosen, not even by a number that equals its limit.
        chosen = torch.searchsorted(limits[:-1], shares.double(), right=True)
        groups: list[tuple[Prompter, Tensor]] = []
        for index, prompter in enumerate(self.prompters):
            objects = torch.nonzero(chosen == index).flatten()
            if len(objects):
                if isinstance(prompter, Mixed):  # with another seed, so that it does not follow this draw
                    # Positions among the selected objects → positions in this batch.
                    # Without originals: the draw needs no masks, which `select` would make dense.
                    own = replace(batch, originals=[]).select(objects)
                    inner = prompter.split(own, derive_seed(seed, "mixed", index))
                    groups += [(own_prompter, objects[part]) for own_prompter, part in inner]
                else:
                    groups.append((prompter, objects))
        return groups or self.drawn[0].split(batch, seed)  # no objects

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        raise TypeError("Mixed has several prompters; call split")

    def examples(self, batch: Batch) -> Iterator[Prompts]:
        for prompter in self.drawn:
            yield from prompter.examples(batch)
