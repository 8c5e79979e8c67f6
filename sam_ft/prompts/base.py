"""What all prompters have in common, and how the rounds of one that asks again follow one another."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from sam_ft.types import KINDS, Batch, Prediction, Prompts


@dataclass
class Errors:
    """Where an answer is wrong, in whichever frame it was compared with the truth.

    missed, extra: (M, h, w) bool: object that was not found · found that is no object
    scale, offset: (M, 2): pixel x, y of that frame lies at x, y · scale + offset in the input frame
    """

    missed: Tensor
    extra: Tensor
    scale: Tensor
    offset: Tensor

    def to_input(self, pixels: Tensor) -> Tensor:
        """pixels: (M, 2) x, y → (M, 2) float32 in the input frame"""
        return pixels.float() * self.scale + self.offset


class Prompter:
    """Asks about all objects of a batch: called with (batch, seed) it gives `Prompts` in the input frame.

    The prompts of an object hang on the seed, its image's name and its rank in the image, see `noise`.

    asks: what the prompts may hold, of `types.KINDS`; it decides what parts of the model they can teach
    rounds: how often the model is asked about the same objects
    detach: no gradient flows back through an answer that becomes part of the next prompt
    """

    asks: Collection[str] = KINDS
    rounds = 1
    detach = True

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        raise NotImplementedError

    def next(self, batch: Batch, seed: int, turn: int, prompts: Prompts, answer: Prediction, errors: Errors) -> Prompts:
        """The prompts of turn 1, 2, ... from the last ones, the answer to them (C = 1) and where it is wrong."""
        raise NotImplementedError

    def split(self, batch: Batch, seed: int) -> list[tuple["Prompter", Tensor]]:
        """Who asks about which objects, (n,) int64 ascending: other prompters, if it is they who are to be drawn."""
        return [(self, torch.arange(batch.num_objects, device=batch.image_index.device))]


class Dialogue:
    """The rounds of questions and answers about the objects of a batch.

    prompts: to be asked now · batch: the objects that it is about · valid: their pixels that count, in training
    """

    def __init__(self, prompter: Prompter, batch: Batch, seed: int) -> None:
        self.prompter = prompter
        self.batch = batch
        self.seed = seed
        self.round = 0
        self.prompts = prompter(batch, seed)

    @cached_property
    def valid(self) -> Tensor:
        return self.batch.valid_pixels()

    @property
    def ends(self) -> bool:
        """Whether the present prompts are the last ones."""
        return self.round == self.prompter.rounds - 1

    def hear(self, answer: Prediction, errors: Errors) -> None:
        """Makes the next prompts out of the answer to these; answer: C = 1"""
        self.round += 1
        if self.prompter.detach:
            answer = Prediction(answer.logits.detach(), answer.pred_iou.detach())
        self.prompts = self.prompter.next(self.batch, self.seed, self.round, self.prompts, answer, errors)


@dataclass
class Truth:
    """Some objects of a batch as prompts are made from them: in the input frame in training, else in the original one.

    objects: (n,) positions on the axis M · masks, valid: (n, H, W) bool, valid where an image has pixels that count
    scale: (2,) from x, y there to the input frame
    """

    objects: Tensor
    masks: Tensor
    valid: Tensor
    scale: Tensor


def truths(batch: Batch) -> Iterator[Truth]:
    """All objects at once in training; in evaluation those of one image after the other."""
    device = batch.image_index.device
    if not batch.original_masks:
        everything = torch.arange(batch.num_objects, device=device)
        yield Truth(everything, batch.masks, batch.valid_pixels(), torch.ones(2, device=device))
        return
    for image, masks in enumerate(batch.original_masks):
        if len(masks):
            (height, width), (h, w) = batch.original_sizes[image], batch.input_sizes[image]
            ignore = batch.original_ignore[image]
            valid = torch.ones_like(masks[0]) if ignore is None else ~ignore
            scale = torch.tensor([w / width, h / height], device=device)
            yield Truth(batch.objects_of(image), masks, valid.expand_as(masks), scale)


def errors_on_grid(batch: Batch, valid: Tensor, answer: Prediction) -> Errors:
    """Where the logits (M, 1, 4s, 4s) are wrong, each compared with the pixel of the input at the middle of its cell.

    On the logits' own grid, which costs a sixteenth of the input's at 1024 and no upsampling.
    """
    side = answer.logits.shape[-1]
    cell = batch.image_size // side
    here = slice(cell // 2, None, cell)
    true, valid = batch.masks[:, here, here], valid[:, here, here]
    found = answer.logits[:, 0] > 0
    scale = torch.full((len(true), 2), float(cell), device=true.device)
    return Errors(true & ~found & valid, found & ~true & valid, scale, torch.full_like(scale, cell // 2))


def click(prompts: Prompts, points: Tensor, labels: Tensor) -> Prompts:
    """The same prompts with one more point for each object: points (M, 2) in the input frame, labels (M,)."""
    points, labels = points[:, None], labels[:, None]
    if prompts.points is not None and prompts.point_labels is not None:
        points = torch.cat([prompts.points, points], dim=1)
        labels = torch.cat([prompts.point_labels, labels], dim=1)
    return replace(prompts, points=points, point_labels=labels)
