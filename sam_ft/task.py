"""Prompted segmentation, the one path of training and evaluation: encode, prompt, decode, compare with ground truth."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_ft.models import Sam
from sam_ft.models.chunks import Chunks
from sam_ft.models.heads import in_head
from sam_ft.prompts import Comparison, GroundTruth, InteractiveSession, Prompter, compare_on_grid, scale_prompts
from sam_ft.types import Batch, Features, Prediction, Prompts, Size
from sam_ft.utils import distributed
from sam_ft.utils.precision import autocast, compute_dtype

Loss = Callable[[Prediction, Tensor, Tensor], dict[str, Tensor]]
Compare = Callable[[Prediction, GroundTruth], Comparison]  # prediction with C = 1

EVALUATION_SEED = 0  # prompts of an evaluation depend on the image's name and the object's index alone


class PredictedChunk(NamedTuple):
    """The masks of a few objects of one image.

    image: its index in the batch · objects: (n,) their positions on the axis M of the batch
    masks: (n, H, W) bool in the original frame, exactly those of SamPredictor · pred_iou: (n,)
    gt: (n, H, W) bool, their ground truth
    prompts: those of the last round, boxes and points in the original frame
    click_ious: (n, R) the IoU with the ground truth after each of R rounds, or None if there is only one
    """

    image: int
    objects: Tensor
    masks: Tensor
    pred_iou: Tensor
    gt: Tensor
    prompts: Prompts
    click_ious: Tensor | None


class DecoderPass(NamedTuple):
    """A forward and backward pass of some objects through the decoder.

    features: embeddings of the batch, without a graph · num_rounds: the next ones to run; None for all that are left
    """

    features: Features
    session: InteractiveSession
    num_rounds: int | None


class HeadPass(NamedTuple):
    """A forward and backward pass of a batch's images through the head.

    features: embeddings of the batch, without a graph · images: (B, 3, S, S) uint8 · maps: (B, C, 4s, 4s)
    """

    features: Features
    images: Tensor
    maps: Tensor


class EncoderPass(NamedTuple):
    """The backward pass of an encoder that learns, once for all objects.

    embedding: (B, 256, s, s) with its graph · gradient: the same shape, the sum over the passes through the decoder
    """

    embedding: Tensor
    gradient: Tensor

    def product(self) -> Tensor:
        """(1,): a value with that gradient."""
        return (self.embedding * self.gradient).sum()[None]


class PromptedSegmentation(nn.Module):
    """A SAM model with a loss: one forward pass gives the losses of every object.

    precision: "auto" (bfloat16 on a GPU that has it), "float32" or "bfloat16"
    features_dtype: the prefix of the encoder rounds its maps to it, so that cached and fresh ones are equal; None
        leaves them as they are

    DistributedDataParallel wraps this module, so that everything with gradients passes through its forward.
    """

    def __init__(
        self,
        model: Sam,
        loss: Loss | None = None,
        precision: str = "auto",
        features_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.precision = precision
        self.features_dtype = features_dtype
        # Found once, when it is known what learns: each look goes through all parameters.
        self.cut = model.image_encoder.cut
        self.only_head_learns = model.head is not None and not any(
            p.requires_grad for name, p in model.named_parameters() if not in_head(name)
        )

    def forward(self, given: DecoderPass | HeadPass | EncoderPass) -> dict[str, Tensor]:
        """The losses of a pass through the decoder or the head, or a value whose gradient is that of the encoder.

        → {"loss": (m,), its terms: (m,)} for the m objects of the session, summed over these rounds and divided by all
        rounds of their prompter; {"loss": (B,)} for the head; {"loss": (1,)} for the encoder
        """
        if isinstance(given, DecoderPass):
            losses = self._decode(given)
        else:
            losses = {"loss": self._head_loss(given) if isinstance(given, HeadPass) else given.product()}
        if distributed.world_size() > 1:
            # DistributedDataParallel waits for the gradient of every parameter, also of those that these prompts do
            # not reach; the prompts of another process may.
            touched = sum(p.flatten()[0] for p in self.model.parameters() if p.requires_grad)
            # Zero times one number of each parameter: in the graph, and without an effect on the gradient.
            losses["loss"] = losses["loss"] + 0 * touched
        return losses

    def _head_loss(self, given: HeadPass) -> Tensor:
        head = self.model.head
        assert head is not None
        with self.autocast():
            logits = head(given.features.embedding, given.images)
        return head.loss(logits.float(), given.maps)

    def _decode(self, given: DecoderPass) -> dict[str, Tensor]:
        if self.loss is None:
            raise ValueError("this task was made for evaluation: it has no loss")
        session = given.session
        totals: dict[str, Tensor] = {}
        for prediction, _ in self.run_rounds(given.features, session, compare_on_grid, given.num_rounds):
            losses = self.loss(prediction, session.gt.masks, session.gt.valid)
            totals = {name: values + totals.get(name, 0) for name, values in losses.items()}  # (M,) each
        # Divided by all rounds, also if this pass runs one of them: the passes of an object add up to its mean.
        return {name: values / session.prompter.rounds for name, values in totals.items()}

    def encode(self, batch: Batch) -> Features:
        """The features of a batch's images for the decoder: cached or fresh up to the cut, then the suffix."""
        features = batch.features
        if features is None:
            assert batch.images is not None
            features = self.prefix(batch.images, batch.sizes, batch.extremes)
        with self.autocast():
            # float32: the cache may hold float16, and autocast casts again where it wants to.
            return self.model.suffix(Features(tuple(one.float() for one in features.maps)), self.cut)

    @torch.no_grad()
    def prefix(self, images: Tensor, sizes: Sequence[Size], extremes: Tensor | None = None) -> Features:
        """The maps of images (B, 3, S, S) uint8 at the cut, which hold no gradient; on a CPU one image at a time.

        extremes: see `Batch.extremes`
        """
        images = images.to(self.model.device, non_blocking=True)  # uint8 until here: a quarter of the bytes of float32
        parts = []
        with self.autocast():
            # At least one pass: a batch of no images still needs maps, with B = 0.
            for start in range(0, max(1, len(images)), self.chunks.images):
                some = slice(start, start + self.chunks.images)
                own = None if extremes is None else extremes[some]
                parts.append(self.model.prefix(images[some], sizes[some], self.cut, own).maps)
        maps = tuple(torch.cat(same) for same in zip(*parts, strict=True))
        return Features(maps if self.features_dtype is None else tuple(one.to(self.features_dtype) for one in maps))

    def run_rounds(
        self, features: Features, session: InteractiveSession, compare: Compare, num_rounds: int | None = None
    ) -> Iterator[tuple[Prediction, Comparison]]:
        """Decodes the prompts of a session, yields the prediction, and steps to the prompts that correct its errors.

        compare: brings the best candidate and the ground truth into one frame · num_rounds: None for all that are left
        """
        index = session.batch.image_index
        for _ in range(num_rounds or session.prompter.rounds - session.round):
            prompts = session.prompts
            with self.autocast():
                # A single point is ambiguous: three candidates. Everything else: one.
                prediction = self.model.decode(features, prompts, index, prompts.ambiguous)
            comparison = compare(prediction.best(), session.gt)
            yield prediction, comparison
            # The corrective click comes after the yield: its caller has used the prediction by then.
            if not session.is_last_round:
                session.step(prediction.best(), comparison)

    @torch.no_grad()
    def predict(
        self, batch: Batch, prompter: Prompter, chunk: int | None = None, features: Features | None = None
    ) -> Iterator[PredictedChunk]:
        """Yields the final masks of all objects, image by image, a chunk of objects at a time.

        The chunks of an image may be in another order than its objects, see `Prompter.split`.

        chunk: objects decoded at a time; None for the device's default · features: of `encode`, if they are known
        """
        features = self.encode(batch) if features is None else features
        for index in range(len(batch.originals)):
            # One image at a time: only then do its objects share an original frame.
            one_image, first = batch.image(index), torch.searchsorted(batch.image_index, index)
            if one_image.num_objects:
                for found in self._predict_image(features.image(index), one_image, prompter, chunk):
                    yield found._replace(image=index, objects=found.objects + first)

    def _predict_image(
        self, features: Features, batch: Batch, prompter: Prompter, chunk: int | None
    ) -> Iterator[PredictedChunk]:
        """The predictions for a batch of one image with its features."""
        size, input_size, device = batch.originals[0].size, batch.sizes[0], batch.image_index.device
        compare = partial(self._compare_in_original, input_size=input_size, size=size)
        for own_prompter, members in prompter.split(batch, EVALUATION_SEED):
            # A chunk of objects runs through all of its rounds before the next one starts, so memory holds one chunk.
            for part in members.to(device).split(chunk or self.chunks.predict(size)):
                session = InteractiveSession(own_prompter, batch.select(part), EVALUATION_SEED)
                ious = torch.empty(len(part), prompter.rounds, dtype=torch.float64)
                for round_index, (prediction, comparison) in enumerate(self.run_rounds(features, session, compare)):
                    if prompter.rounds > 1:  # a group with fewer rounds keeps its last IoU
                        ious[:, round_index:] = comparison.iou()[:, None]
                    best, predicted = prediction.best(), comparison.predicted  # in the end those of the last round
                yield PredictedChunk(
                    image=0,
                    objects=part,
                    masks=predicted,
                    pred_iou=best.pred_iou[:, 0].float(),
                    gt=session.gt.masks,
                    prompts=scale_prompts(replace(session.prompts, masks=None), input_size, size),
                    click_ious=ious if prompter.rounds > 1 else None,
                )

    def _compare_in_original(self, prediction: Prediction, gt: GroundTruth, input_size: Size, size: Size) -> Comparison:
        # Upsampled, then thresholded, as SamPredictor does.
        masks = self.model.postprocess(prediction.logits.float(), input_size, size)[:, 0] > 0
        return Comparison(masks, gt.masks, gt.valid, gt.scale)

    @property
    def compute_dtype(self) -> torch.dtype:
        return compute_dtype(self.precision, self.model.device)

    def autocast(self) -> AbstractContextManager:
        return autocast(self.precision, self.model.device)

    @property
    def encoder_learns(self) -> bool:
        return self.cut < len(self.model.image_encoder.units())

    @cached_property
    def chunks(self) -> Chunks:
        """The default sizes of passes, found when first needed: the model is on its device by then."""
        return Chunks(self.model)
