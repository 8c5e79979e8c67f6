"""Prompted segmentation, the one path of training and evaluation: encode, prompt, decode, compare with ground truth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_ft.models import Sam
from sam_ft.prompts import Comparison, GroundTruth, InteractiveSession, Prompter, compare_on_grid, scale_prompts
from sam_ft.types import Batch, Features, Prediction, Prompts, Size
from sam_ft.utils import distributed
from sam_ft.utils.precision import autocast, compute_dtype

Loss = Callable[[Prediction, Tensor, Tensor], dict[str, Tensor]]
Compare = Callable[[Prediction, GroundTruth], Comparison]  # prediction with C = 1

EVALUATION_SEED = 0  # prompts of an evaluation depend on the image's name and the object's index alone


class PredictedImage(NamedTuple):
    """The masks of all objects of one image.

    image: its index in the batch
    masks: (N, H, W) bool in the original frame, exactly those of SamPredictor · pred_iou: (N,)
    prompts: (n,) positions among the N objects with their prompts of the last round, boxes and points in the original
        frame, one pair for each group of objects
    click_ious: (N, R) the IoU with the ground truth after each round, or None if there is only one
    """

    image: int
    masks: Tensor
    pred_iou: Tensor
    prompts: list[tuple[Tensor, Prompts]]
    click_ious: Tensor | None


class PromptedSegmentation(nn.Module):
    """A SAM model with a loss: one forward pass gives the losses of every object.

    precision: "auto" (bfloat16 on a GPU that has it), "float32" or "bfloat16"
    features_dtype: the prefix of the encoder rounds its maps to it, so that cached and fresh ones are equal; None
        leaves them as they are

    DistributedDataParallel wraps this module, so that everything with gradients passes through its forward.
    """

    def __init__(self, model: Sam, loss: Loss | None = None, precision: str = "auto") -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.precision = precision
        self.features_dtype: torch.dtype | None = None

    def forward(self, batch: Batch, sessions: Sequence[InteractiveSession], rounds: int | None = None) -> dict:
        """The losses of the next `rounds` of some sessions about objects of a batch, of all rounds if None.

        → {"loss": (M,), its parts: (M,)} for the objects of one session after the other: the share that these rounds
        have in the mean over all rounds
        """
        if self.loss is None:
            raise ValueError("this task was made for evaluation: it has no loss")
        features = self.encode(batch)
        collected: list[dict[str, Tensor]] = []
        for session in sessions:
            totals: dict[str, Tensor] = {}
            for prediction, _ in self.rounds(features, session, compare_on_grid, rounds):
                losses = self.loss(prediction, session.gt.masks, session.gt.valid)
                totals = {name: values + totals.get(name, 0) for name, values in losses.items()}
            collected.append({name: values / session.prompter.rounds for name, values in totals.items()})
        losses = {name: torch.cat([part[name] for part in collected]) for name in collected[0]}
        if distributed.world_size() > 1:
            # DistributedDataParallel waits for the gradient of every parameter, also of those that these prompts do
            # not reach; the prompts of another process may.
            unreached = sum(p.flatten()[0] for p in self.model.parameters() if p.requires_grad)
            losses["loss"] = losses["loss"] + 0 * unreached
        return losses

    def encode(self, batch: Batch) -> Features:
        """The features of a batch's images for the decoder: cached or fresh up to the cut, then the suffix."""
        features = batch.features
        if features is None:
            assert batch.images is not None
            features = self.prefix(batch.images, batch.sizes)
        with self.autocast():
            return self.model.suffix(Features(tuple(one.float() for one in features.maps)))

    @torch.no_grad()
    def prefix(self, images: Tensor, sizes: Sequence[Size]) -> Features:
        """The maps of images (B, 3, S, S) uint8 at the cut, which hold no gradient; on a CPU one image at a time."""
        images = images.to(self.model.device, non_blocking=True)
        parts = []
        with self.autocast():
            for start in range(0, max(1, len(images)), self.images_per_pass):
                some = slice(start, start + self.images_per_pass)
                parts.append(self.model.prefix(images[some], sizes[some]).maps)
        maps = tuple(torch.cat(same) for same in zip(*parts, strict=True))
        return Features(maps if self.features_dtype is None else tuple(one.to(self.features_dtype) for one in maps))

    def rounds(
        self, features: Features, session: InteractiveSession, compare: Compare, count: int | None = None
    ) -> Iterator[tuple[Prediction, Comparison]]:
        """Decodes the prompts of a session, yields the prediction, and steps to the prompts that correct its errors.

        compare: brings the best candidate and the ground truth into one frame · count: of rounds; None for all
        """
        index = session.batch.image_index
        for _ in range(count or session.prompter.rounds):
            prompts = session.prompts
            with self.autocast():
                prediction = self.model.decode(features, prompts, index, prompts.ambiguous)
            comparison = compare(prediction.best(), session.gt)
            yield prediction, comparison
            if not session.is_last_round:
                session.step(prediction.best(), comparison)

    @torch.no_grad()
    def predict(self, batch: Batch, prompter: Prompter, chunk: int | None = None) -> Iterator[PredictedImage]:
        """Yields the masks of each image that has objects, as they are after the last round.

        chunk: objects decoded at a time; None for the device's default
        """
        features = self.encode(batch)
        for index, original in enumerate(batch.originals):
            one, own_features = batch.image(index), features.image(index)
            count, device = one.num_objects, one.image_index.device
            if not count:
                continue
            masks = torch.empty(count, *original.size, dtype=torch.bool, device=device)
            pred_iou = torch.empty(count, device=device)
            ious = torch.empty(count, prompter.rounds, dtype=torch.float64)
            prompts = []
            compare = partial(self._compare_in_original, input_size=one.sizes[0], size=original.size)
            for who, members in prompter.split(one, EVALUATION_SEED):
                for part in members.to(device).split(chunk or self.objects_per_pass):
                    session = InteractiveSession(who, one.select(part), EVALUATION_SEED)
                    rounds = self.rounds(own_features, session, compare)
                    for turn, (prediction, comparison) in enumerate(rounds):  # noqa: B007 (the last one counts)
                        if prompter.rounds > 1:  # a group with fewer rounds keeps its last IoU
                            ious[part.cpu(), turn:] = comparison.iou()[:, None]
                    masks[part], pred_iou[part] = comparison.predicted, prediction.best().pred_iou[:, 0].float()
                    prompts.append((part, scale_prompts(session.prompts, one.sizes[0], original.size)))
            yield PredictedImage(index, masks, pred_iou, prompts, ious if prompter.rounds > 1 else None)

    def _compare_in_original(self, prediction: Prediction, gt: GroundTruth, input_size: Size, size: Size) -> Comparison:
        masks = self.model.postprocess(prediction.logits.float(), input_size, size)[:, 0] > 0
        return Comparison(masks, gt.masks, gt.valid, gt.scale)

    @property
    def compute_dtype(self) -> torch.dtype:
        return compute_dtype(self.precision, self.model.device)

    def autocast(self) -> AbstractContextManager:
        return autocast(self.precision, self.model.device)

    @property
    def encoder_learns(self) -> bool:
        return any(p.requires_grad for p in self.model.image_encoder.parameters())

    @property
    def images_per_pass(self) -> int:
        """On a CPU one image keeps all cores busy, and its features depend on nothing else in the batch."""
        return 1 if self.model.device.type == "cpu" else 4

    @property
    def objects_per_pass(self) -> int:
        """200 MB each at an input side of 1024 with the backward pass."""
        return 8 if self.model.device.type == "cpu" else 16
