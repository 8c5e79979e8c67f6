"""The one door that training and evaluation go through: encode, prompt, decode, and compare with the truth."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_ft.cache.precompute import encoder_digest, image_key
from sam_ft.cache.store import FeatureStore
from sam_ft.models import Sam
from sam_ft.prompts import Dialogue, Errors, Prompter, errors_on_grid
from sam_ft.types import Batch, Features, Prediction, Prompts, Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError, TrainingError
from sam_ft.utils.geometry import areas, scale_boxes, scale_points

log = logging.getLogger("sam_ft")

Pass = tuple[Batch, list[Dialogue], int | None]  # the arguments of `PromptedSegmentation.forward`
Loss = Callable[[Prediction, Tensor, Tensor], dict[str, Tensor]]

EVALUATION_SEED = 0  # prompts of an evaluation depend on the sample's name alone


class PredictedImage(NamedTuple):
    """The answers for all objects of one image.

    image: its place in the batch
    masks: (N, H, W) bool in the original frame, exactly what SamPredictor returns · pred_iou: (N,)
    prompts: what was asked in the last round, in the original frame and without masks: (n,) which of the N objects,
        and their prompts, as often as there are groups of objects
    click_ious: (N, R) the true IoU after each round, or None if there is only one
    """

    image: int
    masks: Tensor
    pred_iou: Tensor
    prompts: list[tuple[Tensor, Prompts]]
    click_ious: Tensor | None


class PromptedSegmentation(nn.Module):
    """A SAM model with a loss: one forward pass gives every object's losses.

    store: of embeddings made by a frozen encoder; an encoder that learns has none

    It is this module that DistributedDataParallel wraps, so that all that computes gradients passes through it.
    """

    def __init__(
        self, model: Sam, loss: Loss | None = None, precision: str = "auto", store: FeatureStore | None = None
    ):
        super().__init__()
        self.model = model
        self.loss = loss
        self.precision = precision
        self.encoder_learns = any(p.requires_grad for p in model.image_encoder.parameters())
        self.store = None if self.encoder_learns else store
        if self.store is not None:
            self.store.open(encoder_digest(model, self.computed_in), model.embedding_shape)

    def forward(self, batch: Batch, dialogues: list[Dialogue], rounds: int | None = None) -> dict[str, Tensor]:
        """The next `rounds` of the dialogues about objects of a batch, or all of them, on one encoding.

        → {"loss": (M,), its parts: (M,)} for the objects of one dialogue after the other: the share that these
        rounds have in the mean over all rounds
        """
        if self.loss is None:
            raise ValueError("this task was made for evaluation: it has no loss")
        with self.autocast():
            features = self.encode(batch)
        collected: list[dict[str, Tensor]] = []
        for dialogue in dialogues:
            own = dialogue.batch
            totals: dict[str, Tensor] = {}
            for _ in range(rounds or dialogue.prompter.rounds):
                with self.autocast():
                    prompts = dialogue.prompts
                    prediction = self.model.decode(features, prompts, own.image_index, prompts.ambiguous)
                losses = self.loss(prediction, own.masks, dialogue.valid)
                totals = {name: values + totals.get(name, 0) for name, values in losses.items()}
                if not dialogue.ends:
                    answer = prediction.best()
                    dialogue.hear(answer, errors_on_grid(own, dialogue.valid, answer))
            collected.append({name: values / dialogue.prompter.rounds for name, values in totals.items()})
        losses = {name: torch.cat([part[name] for part in collected]) for name in collected[0]}
        if distributed.world_size() > 1:
            # DistributedDataParallel waits for the gradient of every parameter, also of those that these prompts
            # do not reach; the other processes' may.
            unreached = sum(p.flatten()[0] for p in self.model.parameters() if p.requires_grad)
            losses["loss"] = losses["loss"] + 0 * unreached
        return losses

    def encode(self, batch: Batch) -> Features:
        """The embeddings of a batch's images, stored or fresh; no graph is kept for a frozen encoder."""
        if not batch.uncached and batch.cached is not None:
            return Features((batch.cached.embedding.float(),))
        sizes = [batch.input_sizes[index] for index in batch.uncached]
        if self.encoder_learns:
            return self.model.encode(batch.images, sizes)
        fresh = self.encode_frozen(batch.images, sizes).embedding
        if self.store is not None:
            for index, pixels, (height, width), embedding in zip(
                batch.uncached, batch.images, sizes, fresh, strict=True
            ):
                key = batch.keys[index]
                # hashed anew, for the file may be another by now
                same = key and self.store.writable and key == image_key(pixels[:, :height, :width].cpu())
                if same and self.store.put(key, embedding):
                    log.warning("%s: its stored embedding was gone or damaged; encoded again", batch.names[index])
            fresh = fresh.to(self.store.dtype).float()  # rounded alike, so that no result hangs on what was stored
        if batch.cached is None:
            return Features((fresh,))
        embedding = fresh.new_empty(len(batch.names), *fresh.shape[1:])
        embedding[batch.uncached] = fresh
        stored = [index for index in range(len(batch.names)) if index not in batch.uncached]
        embedding[stored] = batch.cached.embedding.to(fresh.dtype)
        return Features((embedding,))

    def passes(self, batch: Batch, prompter: Prompter, seed: int, chunk: int | None = None) -> list[Pass]:
        """What `forward` is to be called with, one after the other, to train all objects of a batch.

        chunk: objects of each pass, at most; None for what the device does well with

        Each pass can have its own backward pass, so memory holds one round of a few objects. A frozen encoder runs
        here, once for all of them, which takes no wrapper: it has no gradients to meet. One that learns gets all
        objects and rounds in one pass.
        """
        groups = prompter.split(batch, seed)  # before the batch moves, so that no device has to be waited for
        device = self.model.device
        batch = batch.to(device, non_blocking=True)
        if not self.encoder_learns:
            batch = replace(batch, images=batch.images[:0], uncached=[], cached=self.encode(batch))
        dialogues = []
        for asking, objects in groups:
            for part in objects.split(len(objects) + 1 if self.encoder_learns else chunk or self.objects_at_once):
                own = batch if len(part) == batch.num_objects else batch.select(part.to(device, non_blocking=True))
                dialogues.append(Dialogue(asking, own, seed))
        if self.encoder_learns:
            return [(batch, dialogues, None)]
        passes: list[Pass] = []
        for dialogue in dialogues:
            rounds = dialogue.prompter.rounds
            passes += [(batch, [dialogue], 1)] * rounds if dialogue.prompter.detach else [(batch, [dialogue], None)]
        return passes

    @torch.no_grad()
    def encode_frozen(self, images: Tensor, input_sizes: list[Size]) -> Features:
        """Embeds images (B, 3, S, S), on a CPU one by one: there an embedding hangs on nothing else in the batch."""
        images = images.to(self.model.device, non_blocking=True)
        parts = []
        with self.autocast():
            for start in range(0, max(1, len(images)), self.images_at_once):
                part = slice(start, start + self.images_at_once)
                parts.append(self.model.encode(images[part], input_sizes[part]).embedding)
        return Features((torch.cat(parts),))

    @property
    def images_at_once(self) -> int:
        """On a CPU one image keeps all cores busy, and more of them only fill memory."""
        return 1 if self.model.device.type == "cpu" else 4

    @torch.no_grad()
    def predict(self, batch: Batch, prompter: Prompter, chunk: int | None = None) -> Iterator[PredictedImage]:
        """Yields the masks of one image with objects after the other, as they are after the last round of questions.

        Where all that was asked is one point, it is the candidate that the model thinks best.

        chunk: objects decoded at a time; None for what the device does well with
        """
        with self.autocast():
            features = self.encode(batch)
        groups = [(who, part.to(batch.image_index.device)) for who, part in prompter.split(batch, EVALUATION_SEED)]
        for index, original_size in enumerate(batch.original_sizes):
            objects = batch.objects_of(index)
            if not len(objects):
                continue
            masks = torch.empty(len(objects), *original_size, dtype=torch.bool, device=objects.device)
            guesses = torch.empty(len(objects), device=objects.device)
            ious = torch.empty(len(objects), prompter.rounds, dtype=torch.float64)
            prompts = []
            for asking, members in groups:
                own = members[batch.image_index[members] == index]
                for part in own.split(chunk or self.objects_at_once) if len(own) else ():
                    dialogue = Dialogue(asking, batch.select(part), EVALUATION_SEED)
                    places = part - objects[0]
                    masks[places], guesses[places], after = self._hold(dialogue, features, index, prompter.rounds > 1)
                    if after is not None:
                        last = after.shape[1] - 1  # kept by those that are asked less often than others
                        ious[places.cpu()] = after[:, [min(turn, last) for turn in range(prompter.rounds)]]
                    asked = _in_original_frame(dialogue.prompts, batch.input_sizes[index], original_size)
                    prompts.append((places, asked))
            yield PredictedImage(index, masks, guesses, prompts, ious if prompter.rounds > 1 else None)

    def _hold(
        self, dialogue: Dialogue, features: Features, image: int, rate: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """All rounds about some objects of one image: the last masks (n, H, W) in its original frame, the model's
        guess (n,) of their IoU, and the true one after each round (n, R) if they are to be rated.
        """
        own, ious = dialogue.batch, []
        input_size, original_size = own.input_sizes[image], own.original_sizes[image]
        ignore = own.original_ignore[image]
        while True:
            prompts = dialogue.prompts
            with self.autocast():
                answer = self.model.decode(features, prompts, own.image_index, prompts.ambiguous).best()
            masks = self.model.postprocess(answer.logits.float(), input_size, original_size)[:, 0] > 0
            if rate:  # always where there is another round
                true, counted = own.original_masks[image], masks if ignore is None else masks & ~ignore
                overlap, missed, extra = true & counted, true & ~counted, counted & ~true
                ious.append(areas(overlap) / (areas(overlap) + areas(missed) + areas(extra)).double())
            if dialogue.ends:
                break
            scale = [input_size[1] / original_size[1], input_size[0] / original_size[0]]
            scales = torch.tensor([scale] * len(masks), device=masks.device)
            dialogue.hear(answer, Errors(missed, extra, scales, torch.zeros_like(scales)))
        return masks, answer.pred_iou[:, 0].float(), torch.stack(ious, 1) if rate else None

    @property
    def objects_at_once(self) -> int:
        """Likewise: 200 MB each at an input side of 1024 with the backward pass."""
        return 8 if self.model.device.type == "cpu" else 16

    @property
    def computed_in(self) -> torch.dtype:
        """bfloat16 on a GPU that has it, unless `precision` says otherwise."""
        choices = {
            "auto": self.model.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
            "float32": False,
            "bfloat16": True,
        }
        if self.precision not in choices:
            raise ConfigError(f"precision={self.precision} is not one of {', '.join(choices)}")
        return torch.bfloat16 if choices[self.precision] else torch.float32

    def autocast(self) -> AbstractContextManager:
        """The context in which the model computes."""
        dtype = self.computed_in
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.model.device.type, dtype)


def _in_original_frame(prompts: Prompts, input_size: Size, original_size: Size) -> Prompts:
    """Boxes and points for drawing."""
    boxes = None if prompts.boxes is None else scale_boxes(prompts.boxes, input_size, original_size)
    points = None if prompts.points is None else scale_points(prompts.points, input_size, original_size)
    return Prompts(boxes, points, prompts.point_labels)


Done = tuple[list[str], Tensor, dict[str, Tensor]]  # names of a pass's images, its objects' index among them, losses


def raise_not_finite(done: list[Done]) -> None:
    """Stops all processes, with the images of the bad losses; if only a gradient is bad, with those of the step."""
    bad, everything = [], []
    for names, image_index, losses in done:
        of_objects = [names[image] for image in image_index.tolist()]
        bad += [name for name, loss in zip(of_objects, losses["loss"].tolist(), strict=True) if not isfinite(loss)]
        everything += of_objects
    bad, everything = distributed.all_gather(bad), distributed.all_gather(everything)
    raise TrainingError(
        "the loss or its gradient is not a finite number; the weights were not touched by it. Images of this batch: "
        f"{', '.join(sorted(set(bad or everything))[:16])}. Look at them, or lower optimizer.lr"
    )
