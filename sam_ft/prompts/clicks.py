"""Corrections: each round clicks on an error of the last prediction, and adds its logits as a mask prompt."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.box import Box
from sam_ft.prompts.ground_truth import Comparison, ground_truth
from sam_ft.prompts.mask import MASK_SIDE
from sam_ft.prompts.mixed import Mixed
from sam_ft.prompts.noise import uniform
from sam_ft.prompts.point import Point
from sam_ft.types import Batch, Prediction, Prompts
from sam_ft.utils.geometry import deepest_pixel, pick_pixels
from sam_ft.utils.seeds import derive_seed


class Clicks(Prompter):
    """A first prompt, then rounds of corrections, each with the logits of the last prediction as mask prompt.

    A click on a false negative is an object point, one on a false positive a background point. Where nothing is wrong
    the object gets a padding point. Training finds errors on the grid of the logits, so it may not see those that are
    thinner than a cell, 4 pixels of the input.

    first: prompter of round 0; None for one point, by `sampling`
    rounds: predictions for each object, the first one included
    mask_only_rounds: rounds without a new click: the last one, and others at random among the rest
    sampling: "uniform": any wrong pixel is as likely; "center": the pixel deepest inside the false negatives or the
        false positives, whichever is deeper, as in evaluations of interactive segmentation; where a click does not
        help, the next one may hit the same pixel
    detach: stop the gradient between rounds

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

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        return self.first(batch, seed)

    def next(
        self,
        batch: Batch,
        seed: int,
        round_index: int,
        prompts: Prompts,
        prediction: Prediction,
        comparison: Comparison,
    ) -> Prompts:
        # All earlier points and boxes stay; the mask prompt is always that of the last round.
        prompts = replace(prompts, masks=prediction.logits)
        if round_index in self.mask_only_round_indices(seed):
            return prompts
        if self.sampling == "uniform":
            pixels, labels = uniform_clicks(comparison, uniform(batch, seed, f"click {round_index}", 1))
        else:
            pixels, labels = center_clicks(comparison)
        return append_click(prompts, comparison.to_input(pixels), labels)

    def examples(self, batch: Batch) -> Iterator[Prompts]:
        yield from self.first.examples(batch)
        if self.rounds == 1:
            return
        gt = ground_truth(batch)
        logits = torch.ones(batch.num_objects, 1, MASK_SIDE, MASK_SIDE, device=gt.masks.device)
        for prompts in self.first.examples(batch):
            if self.mask_only_rounds:
                yield replace(prompts, masks=logits)
            if self.rounds == 1 + self.mask_only_rounds:
                continue
            # a click on the object, one on background, and padding where nothing is wrong
            for predicted in (torch.zeros_like(gt.masks), torch.ones_like(gt.masks), gt.masks):
                comparison = Comparison(predicted, gt.masks, gt.valid, gt.scale)
                pixels, labels = center_clicks(comparison)
                yield append_click(replace(prompts, masks=logits), comparison.to_input(pixels), labels)

    def mask_only_round_indices(self, seed: int) -> set[int]:
        """The rounds that add no click; the same for all objects of a training step."""
        if not self.mask_only_rounds:
            return set()
        generator = torch.Generator().manual_seed(derive_seed(seed, "without click"))
        # Rounds 1 to rounds - 2 in random order: round 0 has its own prompt, and the last is always without a click.
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
        # A mixture of two interactive sessions, each object with its own draw of the two.
        begin = (Box(jitter, max_jitter), Point())
        later = (rounds, mask_only_rounds, "uniform", detach)
        super().__init__([Clicks(first, *later) for first in begin], [1 - point_probability, point_probability])


def uniform_clicks(comparison: Comparison, shares: Tensor) -> tuple[Tensor, Tensor]:
    """(M, 2) x, y of one wrong pixel, each as likely if `shares` (M, 1) are uniform, and (M,) its label 1, 0, or -1."""
    false_negatives = comparison.false_negatives
    # Both kinds of errors in one region, so the larger one is hit more often.
    pixels, any_wrong = pick_pixels(false_negatives | comparison.false_positives, shares)
    pixels = pixels[:, 0]
    on_object = false_negatives[torch.arange(len(pixels), device=pixels.device), pixels[:, 1], pixels[:, 0]]
    return pixels, torch.where(any_wrong, on_object.to(torch.int64), -1)


def center_clicks(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """(M, 2) x, y of the pixel deepest inside the false negatives or positives, and (M,) its label 1 or 0, or -1."""
    pixels, labels = [], []
    false_negatives, false_positives = comparison.false_negatives, comparison.false_positives
    for fn, fp in zip(false_negatives.cpu().numpy(), false_positives.cpu().numpy(), strict=True):
        *fn_pixel, fn_depth = deepest_pixel(fn)
        *fp_pixel, fp_depth = deepest_pixel(fp)
        pixels.append(fn_pixel if fn_depth > fp_depth else fp_pixel)
        # Equally deep: a background point. Nothing wrong: a padding point.
        labels.append(-1 if fn_depth == fp_depth == 0 else int(fn_depth > fp_depth))
    device = false_negatives.device
    return torch.tensor(pixels, device=device).reshape(-1, 2), torch.tensor(labels, dtype=torch.int64, device=device)


def append_click(prompts: Prompts, points: Tensor, labels: Tensor) -> Prompts:
    """The same prompts with one more point for each object: points (M, 2) in the input frame, labels (M,)."""
    points, labels = points[:, None], labels[:, None]
    if prompts.points is not None and prompts.point_labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.point_labels, labels], dim=1)
    return replace(prompts, points=points, point_labels=labels)
