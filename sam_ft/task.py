"""The one door that training and evaluation go through: encode, prompt, decode, and compare with the truth."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_ft.data.features import encoder_digest, image_key
from sam_ft.data.store import FeatureStore
from sam_ft.errors import ConfigError
from sam_ft.models import Sam
from sam_ft.types import Batch, Features, Prediction, Prompts, Size

log = logging.getLogger("sam_ft")

Prompter = Callable[[Batch, int], Prompts]
Loss = Callable[[Prediction, Tensor, Tensor], dict[str, Tensor]]

EVALUATION_SEED = 0  # prompts of an evaluation depend on the sample's name alone


class PredictedImage(NamedTuple):
    """The answers for all objects of one image.

    image: its place in the batch
    masks: (N, H, W) bool in the original frame, exactly what SamPredictor returns · iou: (N,) the model's guess
    boxes: (N, 4) the prompted boxes in the original frame, or None if there were none
    """

    image: int
    masks: Tensor
    iou: Tensor
    boxes: Tensor | None


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

    def forward(self, batch: Batch, prompter: Prompter, seed: int) -> dict[str, Tensor]:
        """{"loss": (M,), its parts: (M,)} for the objects of a batch, single-mask output."""
        if self.loss is None:
            raise ValueError("this task was made for evaluation: it has no loss")
        with self.autocast():
            features = self.encode(batch)
            prompts = prompter(batch, seed)
            prediction = self.model.decode(features, prompts, batch.image_index)
        return self.loss(prediction, batch.masks, batch.valid_pixels())

    def encode(self, batch: Batch) -> Features:
        """The embeddings of a batch's images, stored or fresh; no graph is kept for a frozen encoder."""
        if not batch.uncached and batch.cached is not None:
            return Features(batch.cached.embedding.float())
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
            return Features(fresh)
        embedding = fresh.new_empty(len(batch.names), *fresh.shape[1:])
        embedding[batch.uncached] = fresh
        stored = [index for index in range(len(batch.names)) if index not in batch.uncached]
        embedding[stored] = batch.cached.embedding.to(fresh.dtype)
        return Features(embedding)

    def pieces(self, batch: Batch, chunk: int | None = None) -> list[Batch]:
        """A training batch in pieces of at most `chunk` objects, whose backward passes can follow one another.

        The images are encoded once for all of them, which takes no wrapper: a frozen encoder has no gradients to
        meet. One that learns gets all objects of its images together.
        """
        chunk = chunk or self.objects_at_once
        if self.encoder_learns or batch.num_objects <= chunk:
            return [batch]
        features = self.encode(batch)
        batch = replace(batch, images=batch.images[:0], uncached=[], cached=features)
        return [batch.select(slice(start, start + chunk)) for start in range(0, batch.num_objects, chunk)]

    @torch.no_grad()
    def encode_frozen(self, images: Tensor, input_sizes: list[Size]) -> Features:
        """Embeds images (B, 3, S, S), on a CPU one by one: there an embedding hangs on nothing else in the batch."""
        images = images.to(self.model.device, non_blocking=True)
        parts = []
        with self.autocast():
            for start in range(0, max(1, len(images)), self.images_at_once):
                part = slice(start, start + self.images_at_once)
                parts.append(self.model.encode(images[part], input_sizes[part]).embedding)
        return Features(torch.cat(parts))

    @property
    def images_at_once(self) -> int:
        """On a CPU one image keeps all cores busy, and more of them only fill memory."""
        return 1 if self.model.device.type == "cpu" else 4

    @torch.no_grad()
    def predict(self, batch: Batch, prompter: Prompter, chunk: int | None = None) -> Iterator[PredictedImage]:
        """Yields the masks of one image with objects after the other.

        chunk: objects decoded at a time; None for what the device does well with
        """
        with self.autocast():
            features = self.encode(batch)
        prompts = prompter(batch, EVALUATION_SEED)
        chunk = chunk or self.objects_at_once
        for index, original_size in enumerate(batch.original_sizes):
            objects = batch.objects_of(index)
            if not len(objects):
                continue
            input_size, ious = batch.input_sizes[index], []
            masks = torch.empty(len(objects), *original_size, dtype=torch.bool, device=objects.device)
            for own, part in zip(masks.split(chunk), objects.split(chunk), strict=True):
                with self.autocast():
                    prediction = self.model.decode(features, prompts.select(part), batch.image_index[part])
                logits = self.model.postprocess(prediction.logits.float(), input_size, original_size)
                torch.gt(logits[:, 0], 0, out=own)
                ious.append(prediction.iou[:, 0].float())
            boxes = None
            if prompts.boxes is not None:
                (height, width), (h, w) = original_size, input_size
                scale = torch.tensor([width / w, height / h] * 2, device=prompts.boxes.device)
                boxes = prompts.boxes[objects] * scale
            yield PredictedImage(index, masks, torch.cat(ious), boxes)

    @property
    def objects_at_once(self) -> int:
        """Likewise: 200 MB each at an input side of 1024 with the backward pass."""
        return 8 if self.model.device.type == "cpu" else 64

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
