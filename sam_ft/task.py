"""The one door that training and evaluation go through: encode, prompt, decode, and compare with the truth."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_ft.data.features import FeatureCache
from sam_ft.errors import ConfigError
from sam_ft.models import Sam
from sam_ft.types import Batch, Features, Prediction, Prompts

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

    cache: for embeddings of a frozen encoder; one that learns is never cached

    It is this module that DistributedDataParallel wraps, so that all that computes gradients passes through it.
    """

    def __init__(
        self, model: Sam, loss: Loss | None = None, precision: str = "auto", cache: FeatureCache | None = None
    ):
        super().__init__()
        self.model = model
        self.loss = loss
        self.precision = precision
        self._encoder_learns = any(p.requires_grad for p in model.image_encoder.parameters())
        self._cache = cache

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
        """The embeddings of a batch's images; no graph is kept for a frozen encoder."""
        if self._encoder_learns:
            return self.model.encode(batch.images, batch.input_sizes)
        with torch.no_grad():
            if self._cache is None:
                return self.model.encode(batch.images, batch.input_sizes)
            return self._cache.encode(batch, self.model.encode)

    @torch.no_grad()
    def predict(self, batch: Batch, prompter: Prompter, chunk: int = 64) -> Iterator[PredictedImage]:
        """Yields the masks of one image with objects after the other, decoding at most `chunk` objects at a time."""
        with self.autocast():
            features = self.encode(batch)
        prompts = prompter(batch, EVALUATION_SEED)
        for index, original_size in enumerate(batch.original_sizes):
            objects = batch.objects_of(index)
            if not len(objects):
                continue
            input_size, masks, ious = batch.input_sizes[index], [], []
            for part in objects.split(chunk):
                with self.autocast():
                    prediction = self.model.decode(features, prompts.select(part), batch.image_index[part])
                logits = self.model.postprocess(prediction.logits.float(), input_size, original_size)
                masks.append(logits[:, 0] > 0)
                ious.append(prediction.iou[:, 0].float())
            boxes = None
            if prompts.boxes is not None:
                (height, width), (h, w) = original_size, input_size
                scale = torch.tensor([width / w, height / h] * 2, device=prompts.boxes.device)
                boxes = prompts.boxes[objects] * scale
            yield PredictedImage(index, torch.cat(masks), torch.cat(ious), boxes)

    def autocast(self) -> AbstractContextManager:
        """The context in which the model computes: bfloat16 on a GPU that has it, unless `precision` says otherwise."""
        device = self.model.device.type
        choices = {
            "auto": device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
            "float32": False,
            "bfloat16": True,
        }
        if self.precision not in choices:
            raise ConfigError(f"precision={self.precision} is not one of {', '.join(choices)}")
        return torch.autocast(device, torch.bfloat16) if choices[self.precision] else nullcontext()
