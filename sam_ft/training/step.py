"""One optimizer step: micro-batches, chunks of objects, rounds, and equal weight for every object."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from sam_ft.prompts import InteractiveSession, Prompter
from sam_ft.task import DecoderPass, EncoderPass, PromptedSegmentation
from sam_ft.training.parallel import gradient_sync, unwrap
from sam_ft.types import Batch, Features
from sam_ft.utils import distributed
from sam_ft.utils.errors import TrainingError
from sam_ft.utils.seeds import derive_seed


@dataclass
class StepResult:
    """Numbers of one step, still on the device, which `read_back` brings to the CPU.

    objects: of all processes · grad_norm: before clipping
    losses: each (m,) for the objects of this process · images: the name of the image of each of them
    """

    objects: float
    grad_norm: Tensor
    losses: dict[str, Tensor]
    images: list[tuple[list[str], Tensor]] = field(repr=False)


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

    Losses are summed and divided by the number of objects in the whole global batch. DistributedDataParallel then
    divides by the number of processes, hence the factor. A gradient that is not finite leaves the weights as they are.
    """
    # Known before the first backward pass: every loss is divided by the objects of the whole global batch.
    (objects,) = distributed.sum_over_ranks([sum(batch.num_objects for batch in micro_batches)])
    if not objects:
        return None
    # For LoRA's dropout, or random numbers of a user's loss: a resumed run draws the same, and each process its own.
    torch.manual_seed(derive_seed(seed, distributed.rank()))
    losses: list[dict[str, Tensor]] = []
    images: list[tuple[list[str], Tensor]] = []
    for number, batch in enumerate(micro_batches, 1):
        passes = split_into_passes(unwrap(wrapped), batch, prompter, seed, chunk)
        # Gradients add up over passes; processes average them once, in the last pass of the last micro-batch.
        last = number == len(micro_batches)
        while passes.decoder:
            given = passes.decoder.pop(0)  # free the inputs of each pass once it has run
            with gradient_sync(wrapped, enabled=last and not passes.decoder and not passes.encoder_learns):
                found = wrapped(given)
                (found["loss"].sum() * (distributed.world_size() / objects)).backward()
            losses.append({name: values.detach() for name, values in found.items()})
            images.append((batch.names, given.session.batch.image_index))
        if passes.encoder_learns:
            with gradient_sync(wrapped, enabled=last):
                wrapped(passes.encoder())["loss"].sum().backward()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for p in trained:  # unused parameters get a zero gradient, so 1 and N processes take the same step
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    # The norm is one number over all parameters; it stays on the device.
    norm = clip_grad_norm_(trained, clip_norm)  # the same on all processes, as their gradients are
    result = StepResult(objects, norm, {name: torch.cat([some[name] for some in losses]) for name in losses[0]}, images)
    # A fused optimizer skips the step on the device, and `read_back` raises later. Others must know it now.
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]  # the kernel skips: no read-back
    elif not isfinite(norm):
        raise_not_finite(result)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)  # frees the gradients until the next step
    return result


@dataclass
class Passes:
    """The passes that train all objects of a batch, each with a backward pass of its own.

    decoder: one after the other, so that memory holds one round of a few objects
    embedding: (B, 256, s, s) with its graph, if the encoder learns · leaf: the same without, where the gradients of the
        decoder's passes add up
    """

    decoder: list[DecoderPass]
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
    for own_prompter, objects in groups:
        for part in objects.split(chunk or task.chunks.train):
            own = batch if len(part) == batch.num_objects else batch.select(part.to(device, non_blocking=True))
            session = InteractiveSession(own_prompter, own, seed)
            # Detached rounds share no graph: each has its own backward pass, and the session goes on from pass to pass.
            if own_prompter.detach:
                passes += [DecoderPass(features, session, 1)] * own_prompter.rounds
            else:
                passes.append(DecoderPass(features, session, None))
    return Passes(passes, embedding, leaf)


def read_back(results: Sequence[StepResult]) -> Iterator[dict[str, float]]:
    """Yields for each step the means of its losses over the objects of all processes, "grad_norm" and "objects".

    All numbers leave the device in one copy: here the loop waits for it.

    Raises:
        TrainingError: the gradient of a step is not finite; the steps before it have been yielded.
    """
    if not results:
        return
    sums = [torch.stack([one.grad_norm, *(values.sum() for values in one.losses.values())]) for one in results]
    numbers = torch.stack(sums).tolist()
    # The norm is the same on all processes, so all stop at the same step.
    good = next((i for i, (norm, *_) in enumerate(numbers) if not isfinite(norm)), len(numbers))
    totals = distributed.sum_over_ranks([total for _, *own in numbers[:good] for total in own])
    for result, (norm, *own) in zip(results[:good], numbers[:good], strict=True):
        means = [totals.pop(0) / result.objects for _ in own]
        yield {**dict(zip(result.losses, means, strict=True)), "grad_norm": norm, "objects": result.objects}
    if good < len(numbers):
        raise_not_finite(results[good])


def raise_not_finite(result: StepResult) -> None:
    """Stops all processes and names the images of the bad losses; those of the step if only a gradient is bad."""
    # One name for each object, in the order of result.losses.
    names = [names[image] for names, index in result.images for image in index.tolist()]
    bad = [name for name, loss in zip(names, result.losses["loss"].tolist(), strict=True) if not isfinite(loss)]
    bad, names = distributed.all_gather(bad), distributed.all_gather(names)
    raise TrainingError(
        "the loss or its gradient is not a finite number; the weights were not changed by it. Images of this batch: "
        f"{', '.join(sorted(set(bad or names))[:16])}. Look at them, or lower optimizer.lr"
    )
