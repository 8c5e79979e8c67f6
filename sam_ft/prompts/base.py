"""The interface of all prompters."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sam_ft.prompts.ground_truth import Comparison
from sam_ft.types import Batch, Prediction, Prompts


class Prompter:
    """Makes the prompts of all objects of a batch: called with (batch, seed) it returns `Prompts` in the input frame.

    The prompts of an object depend on the seed, its image's name and its index in the image, see `noise`.

    rounds: number of predictions for the same objects, each with prompts that correct the one before
    detach: stop the gradient where a prediction becomes part of the next prompt
    """

    rounds = 1
    detach = True

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        raise NotImplementedError

    def next(
        self,
        batch: Batch,
        seed: int,
        round_index: int,
        prompts: Prompts,
        prediction: Prediction,
        comparison: Comparison,
    ) -> Prompts:
        """The prompts of round 1, 2, ... from the last ones, the prediction for them (C = 1) and its errors."""
        raise NotImplementedError

    def split(self, batch: Batch, seed: int) -> list[tuple["Prompter", Tensor]]:
        """Groups of objects, (n,) int64 ascending, each with the prompter that is drawn for them."""
        return [(self, torch.arange(batch.num_objects, device=batch.image_index.device))]

    def examples(self, batch: Batch) -> Iterator[Prompts]:
        """At least one example of every kind of prompt that this prompter may draw, for `adapt.freeze_unreached`."""
        yield self(batch, seed=0)
