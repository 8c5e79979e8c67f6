"""Asking again: each round clicks where the last answer was wrong, and shows that answer to the model."""

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from sam_ft.prompts.base import Errors, Prompter, click
from sam_ft.prompts.box import Box
from sam_ft.prompts.mixed import Mixed
from sam_ft.prompts.noise import uniform
from sam_ft.prompts.point import Point
from sam_ft.types import Batch, Prediction, Prompts
from sam_ft.utils.geometry import deepest_pixel, pick_pixels
from sam_ft.utils.seeds import derive_seed


class Clicks(Prompter):
    """A first prompt, then rounds of corrections, each with the logits of the last answer as mask prompt.

    A click on object that was missed is an object point, one on what is no object a background point. Where nothing
    is wrong there is nothing to click on, and the object gets padding. In training errors are looked for on the grid
    of the logits, so those that are thinner than its cells, 4 pixels, may not be seen.

    first: what is asked in round 0; None for one point, at `place`
    rounds: how often the model is asked in all
    mask_only_rounds: rounds without a new click: the last one, and others at random among the rest
    sampling: "uniform": any wrong pixel is as likely; "center": the one deepest inside what was missed or what was too
        much, whichever is deeper, as in the evaluations of interactive segmentation; where it does not help, the same
        pixel may be clicked again
    detach: no gradient flows back through an answer into the round before

    Source: Kirillov et al., Segment Anything, appendix A, "Training algorithm"; the center as in Mahadevan et al.,
    Iteratively Trained Interactive Segmentation (2018), and Sofiiuk et al., RITM (2022).
    """

    def __init__(
        self,
        first: Prompter | None = None,
        rounds: int = 5,
        mask_only_rounds: int = 0,
        sampling: str = "center",
        detach: bool = True,
    ) -> None:
        if rounds < 1 or not 0 <= mask_only_rounds < rounds:
            raise ValueError(
                f"rounds={rounds} and mask_only_rounds={mask_only_rounds}; expected at least 1 round, and fewer "
                "without a click than there are"
            )
        if sampling not in ("uniform", "center"):
            raise ValueError(f"sampling={sampling}; expected uniform or center")
        if isinstance(first, Mixed) or (first is not None and first.rounds > 1):
            raise ValueError(f"first={type(first).__name__}; expected a prompt of one kind and one round, such as Box")
        self.first = Point(sampling=sampling) if first is None else first
        self.rounds = rounds
        self.mask_only_rounds = mask_only_rounds
        self.sampling = sampling
        self.detach = detach
        later: tuple[str, ...] = ("object point", "background point", "mask", "clear") if rounds > 1 else ()
        self.asks: Collection[str] = sorted({*self.first.asks, *later})

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        return self.first(batch, seed)

    def next(self, batch: Batch, seed: int, turn: int, prompts: Prompts, answer: Prediction, errors: Errors) -> Prompts:
        prompts = replace(prompts, masks=answer.logits)
        if turn in self.without_click(seed):
            return prompts
        if self.sampling == "uniform":
            share = uniform(batch, seed, f"click {turn}", 1)
            pixels, any_wrong = pick_pixels(errors.missed | errors.extra, share)
            pixels = pixels[:, 0]
            missed = errors.missed[torch.arange(len(pixels), device=pixels.device), pixels[:, 1], pixels[:, 0]]
            labels = torch.where(any_wrong, missed.to(torch.int64), -1)
        else:
            pixels, labels = center_clicks(errors)
        return click(prompts, errors.to_input(pixels), labels)

    def without_click(self, seed: int) -> set[int]:
        """The rounds that show the last answer alone; the same for all objects of a training step."""
        if not self.mask_only_rounds:
            return set()
        generator = torch.Generator().manual_seed(derive_seed(seed, "without click"))
        order = torch.randperm(self.rounds - 2, generator=generator) + 1
        return {self.rounds - 1, *order[: self.mask_only_rounds - 1].tolist()}


class Iterative(Mixed):
    """SAM's own training: a box or a point first, then clicks drawn from the error region, on one encoding.

    rounds, mask_only_rounds, detach: see `Clicks`; 11 and 2 leave 8 clicks after the first prompt
    point_probability: of an object to begin with a point and not with a box
    jitter, max_jitter: of that box, see `Box`
    """

    def __init__(
        self,
        rounds: int = 11,
        mask_only_rounds: int = 2,
        point_probability: float = 0.5,
        jitter: float = 0.1,
        max_jitter: float = 20.0,
        detach: bool = True,
    ) -> None:
        if not 0 <= point_probability <= 1:
            raise ValueError(f"point_probability={point_probability}; expected a number from 0 to 1")
        begin = (Box(jitter, max_jitter), Point())
        later = (rounds, mask_only_rounds, "uniform", detach)
        super().__init__([Clicks(first, *later) for first in begin], [1 - point_probability, point_probability])


def center_clicks(errors: Errors) -> tuple[Tensor, Tensor]:
    """(M, 2) x, y of the pixel deepest inside the missed or the extra region, and (M,) its label 1 or 0, or -1."""
    pixels, labels = [], []
    for missed, extra in zip(errors.missed.cpu().numpy(), errors.extra.cpu().numpy(), strict=True):
        *inside, missing = deepest_pixel(missed)
        *outside, surplus = deepest_pixel(extra)
        pixels.append(inside if missing > surplus else outside)
        labels.append(-1 if missing == surplus == 0 else int(missing > surplus))
    device = errors.missed.device
    return torch.tensor(pixels, device=device).reshape(-1, 2), torch.tensor(labels, dtype=torch.int64, device=device)
