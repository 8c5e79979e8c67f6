"""One optimizer step: micro-batches, chunks of objects, rounds, and equal weight for every object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sam_ft.prompts import InteractiveSession, Prompter
from sam_ft.task import DecoderPass, EncoderPass, HeadPass, PromptedSegmentation
from sam_ft.training.parallel import gradient_sync, unwrap
from sam_ft.types import Batch, Features
from sam_ft.utils import distributed
from sam_ft.utils.errors import TrainingError
from sam_ft.utils.memory import explain_out_of_memory
from sam_ft.utils.preemption import preemption
from sam_ft.utils.seeds import derive_seed

LESS_MEMORY = (
    "train_chunk=4 (objects at once), micro_batch_size=1 (images at once), or activation_checkpointing=true where the "
    "encoder learns; the same command continues from its last checkpoint with them"
)


@dataclass
class StepResult:
    """Numbers of one step, still on the device, which `read_back` brings to the CPU.

    objects: of all processes · grad_norm: before clipping, without the head
    head_loss: this process's part of the mean over the images of the global batch; None without a head
    losses: each (m,) for the objects of this process · images: the name of the image of each of them
    """

    objects: float
    grad_norm: Tensor
    losses: dict[str, Tensor]
    images: list[tuple[list[str], Tensor]] = field(repr=False)
    head_loss: Tensor | None = None


def train_step(
    wrapped: nn.Module,
    micro_batches: Sequence[Batch],
    prompter: Prompter,
    seed: int,
    optimizer: torch.optim.Optimizer,
    clip_norm: float,
    chunk: int | None = None,
) -> StepResult | None:
    """One optimizer step over all micro-batches of all processes; None if none of them holds an object.

    chunk: objects of one backward pass; None for the device's default

    Losses are summed and divided by the number of objects in the whole global batch, those of a head by the number of
    its images. DistributedDataParallel then divides by the number of processes, hence the factor. A gradient that is
    not finite leaves the weights as they are.

    Raises:
        TrainingError: memory has run out.
    """
    with explain_out_of_memory(micro_batches, chunk or unwrap(wrapped).chunks.train, LESS_MEMORY):
        return _take_step(wrapped, micro_batches, prompter, seed, optimizer, clip_norm, chunk)


def _take_step(
    wrapped: nn.Module,
    micro_batches: Sequence[Batch],
    prompter: Prompter,
    seed: int,
    optimizer: torch.optim.Optimizer,
    clip_norm: float,
    chunk: int | None,
) -> StepResult | None:
    # Known before the first backward pass: every loss is divided by the objects of the whole global batch.
    own_images = sum(len(batch.names) for batch in micro_batches)
    # The wishes to save or to stop travel along, so that all processes know of them at the same step.
    objects, images_of_all, *wishes = distributed.sum_over_ranks(
        [sum(b.num_objects for b in micro_batches), own_images, *preemption.shares()]
    )
    preemption.agree(wishes)
    if not objects:
        return None
    # For LoRA's dropout, or random numbers of a user's loss: a resumed run draws the same, and each process its own.
    torch.manual_seed(derive_seed(seed, distributed.rank()))
    losses: list[dict[str, Tensor]] = []
    images: list[tuple[list[str], Tensor]] = []
    model = unwrap(wrapped).model
    # A process may have no image of a step.
    head_loss = None if model.head is None else torch.zeros((), device=model.device)
    for number, batch in enumerate(micro_batches, 1):
        passes = split_into_passes(unwrap(wrapped), batch, prompter, seed, chunk)
        # Gradients add up over passes; processes average them once, in the last pass of the last micro-batch.
        last = number == len(micro_batches)
        while passes.decoder:
            given = passes.decoder.pop(0)  # free the inputs of each pass once it has run
            with gradient_sync(
                wrapped, enabled=last and not passes.decoder and not passes.head and not passes.encoder_learns
            ):
                found = wrapped(given)
                (found["loss"].sum() * (distributed.world_size() / objects)).backward()
            losses.append({name: values.detach() for name, values in found.items()})
            images.append((batch.names, given.session.batch.image_index))
        if passes.head:
            with gradient_sync(wrapped, enabled=last and not passes.encoder_learns):
                loss = wrapped(passes.head)["loss"].sum() / images_of_all
                (loss * distributed.world_size()).backward()
            head_loss = head_loss + loss.detach()
            if not losses:  # the head learns alone
                images.append((batch.names, torch.arange(len(batch.names))))
        if passes.encoder_learns:
            with gradient_sync(wrapped, enabled=last):
                wrapped(passes.encoder())["loss"].sum().backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for p in trained:  # unused parameters get a zero gradient, so 1 and N processes take the same step
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    # The norm is one number over all parameters but those of a head, which has its own, so that the decoder's steps do
    # not depend on it. Both are the same on all processes, as gradients are, and stay on the device.
    head = {*model.head_parameters()}
    norm = clip_grad_norm_([p for p in trained if p not in head], clip_norm)
    finite = (norm + clip_grad_norm_([p for p in trained if p in head], clip_norm) if head else norm).isfinite()
    norm = torch.where(finite, norm, torch.nan)  # also where only the head's gradient is not finite
    # A head that learns alone has no losses of objects; a process without images runs the decoder on none all the same.
    names = [] if unwrap(wrapped).only_head_learns else losses[0]
    by_term = {name: torch.cat([some[name] for some in losses]) for name in names}
    result = StepResult(objects, norm, by_term, images, head_loss)
    # A fused optimizer skips the step on the device, and `read_back` raises later. Others must know it now.
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # the kernel skips: no read-back
    elif not finite:
        raise_not_finite(result)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # frees the gradients until the next step
    return result


@dataclass
class Passes:
    """The passes that train all objects of a batch, each with a backward pass of its own.

    decoder: one after the other, so that memory holds one round of a few objects · head: None without one
    embedding: (B, 256, s, s) with its graph, if the encoder learns · leaf: the same without, where the gradients of the
        decoder's passes add up
    """

    decoder: list[DecoderPass]
    head: HeadPass | None
    embedding: Tensor
    leaf: Tensor

    @property
    def encoder_learns(self) -> bool:
        return self.embedding.requires_grad

    def encoder(self) -> EncoderPass:
        """The pass of the encoder, once those of the decoder have run."""
        return EncoderPass(self.embedding, torch.zeros_like(self.leaf) if self.leaf.grad is None else self.leaf.grad)


def split_into_passes(
    task: PromptedSegmentation, batch: Batch, prompter: Prompter, seed: int, chunk: int | None = None
) -> Passes:
    """Encodes a batch once for all of its objects, and splits these into passes of at most `chunk`."""
    groups = prompter.split(batch, seed)  # before the batch moves, so that no device has to be waited for
    device = task.model.device
    batch = batch.to(device, non_blocking=True)
    embedding = task.encode(batch).embedding
    leaf = embedding.detach().requires_grad_(embedding.requires_grad)
    features, passes = Features((leaf,)), []
    head = None
    if batch.images is not None and batch.maps is not None:  # None in a batch of no images too
        head = HeadPass(features, batch.images, batch.maps)
    if task.only_head_learns and head is not None:
        return Passes([], head, embedding, leaf)
    for own_prompter, objects in groups:
        for part in objects.split(chunk or task.chunks.train):
            own = batch if len(part) == batch.num_objects else batch.select(part.to(device, non_blocking=True))
            session = InteractiveSession(own_prompter, own, seed)
            # Detached rounds share no graph: each has its own backward pass, and the session goes on from pass to pass.
            if own_prompter.detach:
                passes += [DecoderPass(features, session, 1)] * own_prompter.rounds
            else:
                passes.append(DecoderPass(features, session, None))
    return Passes(passes, head, embedding, leaf)


def read_back(results: Sequence[StepResult]) -> Iterator[dict[str, float]]:
    """Yields for each step the means of its losses over the objects of all processes, "grad_norm" and "objects".

    With a head also "head", its mean loss over the images.

    All numbers leave the device in one copy: here the loop waits for it.

    Raises:
        TrainingError: the gradient of a step is not finite; the steps before it have been yielded.
    """
    if not results:
        return
    sums = [
        torch.stack([one.grad_norm, *(values.sum() for values in one.losses.values()), *_head_loss(one)])
        for one in results
    ]
    numbers = torch.stack(sums).tolist()
    # The norm is the same on all processes, so all stop at the same step.
    good = next((i for i, (norm, *_) in enumerate(numbers) if not isfinite(norm)), len(numbers))
    totals = distributed.sum_over_ranks([total for _, *own in numbers[:good] for total in own])
    for result, (norm, *_) in zip(results[:good], numbers[:good], strict=True):
        means = dict(zip(result.losses, [totals.pop(0) / result.objects for _ in result.losses], strict=True))
        if result.head_loss is not None:
            means["head"] = totals.pop(0)  # divided by the images before
            means.setdefault("loss", means["head"])
        yield {**means, "grad_norm": norm, "objects": result.objects}
    if good < len(numbers):
        raise_not_finite(results[good])


def _head_loss(result: StepResult) -> list[Tensor]:
    return [] if result.head_loss is None else [result.head_loss]


def raise_not_finite(result: StepResult) -> None:
    """Stops all processes and names the images of the bad losses; those of the step if only a gradient is bad."""
    # One name for each object, in the order of result.losses.
    names = [names[image] for names, index in result.images for image in index.tolist()]
    losses = result.losses["loss"].tolist() if result.losses else []
    bad = [name for name, loss in zip(names, losses, strict=False) if not isfinite(loss)]
    bad, names = distributed.all_gather(bad), distributed.all_gather(names)
    raise TrainingError(
        "the loss or its gradient is not a finite number; the weights were not changed by it. Images of this batch: "
        f"{', '.join(sorted(set(bad or names))[:16])}. Look at them, or lower optimizer.lr"
    )
