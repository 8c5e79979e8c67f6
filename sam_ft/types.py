"""The five nouns of the project. Read this file first.

B images of a batch · M objects of the whole batch · N objects of one image · K points · C candidate masks
S input side of the model · s side of the image embedding

The objects of all images lie on one axis M, with `image_index` pointing back to the image each belongs to. So a
batch may hold images of different sizes with any number of objects each, and the decoder runs once for all of them.

Coordinates are x, y in pixels with the origin at the top left corner. The *original frame* is the image as it was
read; the *input frame* is the same image with its longest side resized to S, padded at the right and bottom.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

Size = tuple[int, int]  # (height, width) in pixels
# What prompts may hold; "one point" is `Prompts.ambiguous`, "clear" is anything else.
KINDS = ("box", "object point", "background point", "mask", "no mask", "one point", "clear")
T = TypeVar("T", bound="_TensorFields")


class _TensorFields:
    """Moves every tensor among a dataclass's fields, also those in lists and nested nouns."""

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: T) -> T:
        """Called by torch's DataLoader, so that copies to the GPU overlap with computation."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: T, move) -> T:
        def visit(value):
            if isinstance(value, Tensor):
                return move(value)
            if isinstance(value, _TensorFields):
                return value._map(move)
            if isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
                return type(value)(visit(item) for item in value)
            return value

        noun: Any = self  # every noun is a dataclass, which this base class cannot say
        return replace(noun, **{f.name: visit(getattr(noun, f.name)) for f in fields(noun)})


@dataclass
class Sample:
    """One image with its objects, as read from disk and then as transformed.

    image: (3, H, W) uint8 RGB; (3, 0, 0) where its embedding is known, and no pixels are needed
    masks: (N, H, W) bool, each non-empty · labels: (N,) int64 class or instance ids
    object_index: (N,) int64, the object's rank in its image before any of them were left out
    original_size: size of the image as it was read · input_size: in the input frame, once it is there
    boxes: (N, 4) float32 x0, y0, x1, y1 in the input frame, tight round the object before it was resized, so that
        an object smaller than a pixel of the input keeps its place; set by `transforms.ResizeLongestSide`
    original_masks: (N, H0, W0) bool in the original frame; kept for evaluation only
    ignore: (H, W) bool, pixels of no object that count for nothing, neither in a loss nor in a score; None if there
        are none · original_ignore: (H0, W0) bool, the same in the original frame, for evaluation only
    embedding: (256, s, s) what the frozen encoder made of the image, if that is known
    key: under which an embedding is stored; empty where it is not to be
    """

    image: Tensor
    masks: Tensor
    labels: Tensor
    name: str
    original_size: Size
    object_index: Tensor
    boxes: Tensor | None = None
    original_masks: Tensor | None = None
    ignore: Tensor | None = None
    original_ignore: Tensor | None = None
    input_size: Size | None = None
    embedding: Tensor | None = None
    key: str = ""

    @property
    def size(self) -> Size:
        """(H, W), which the masks have even where the pixels are left out."""
        return (self.masks.shape[-2], self.masks.shape[-1])

    def select(self, keep: Tensor) -> "Sample":
        """The same image with only the objects at `keep`: (n,) int64 positions or (N,) bool."""

        def pick(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[keep]

        return replace(
            self,
            masks=self.masks[keep],
            labels=self.labels[keep],
            object_index=self.object_index[keep],
            boxes=pick(self.boxes),
            original_masks=pick(self.original_masks),
        )


@dataclass
class Features(_TensorFields):
    """The maps of a batch of images at one cut of the encoder, computed once for all prompts.

    maps: each (B, ...); after the neck of SAM 1 it is the image embedding alone, (B, 256, s, s)
    """

    maps: tuple[Tensor, ...]

    @property
    def embedding(self) -> Tensor:
        """(B, 256, s, s): the map that the mask decoder reads."""
        return self.maps[-1]


@dataclass
class Batch(_TensorFields):
    """Images padded to the input side, and all their objects on one axis.

    images: (U, 3, S, S) uint8, zero where padded: the U images that are still to be encoded
    uncached: U positions of these images in the batch, ascending
    cached: the embeddings of the other B - U images, in order; None if there are none
    image_size: S · masks: (M, S, S) bool, empty in evaluation · boxes: (M, 4), see `Sample.boxes`
    labels, object_index: (M,) int64 · image_index: (M,) int64 in [0, B), ascending
    names, original_sizes, input_sizes: one per image; input_sizes is the part of S × S that is not padding
    keys: one per image, see `Sample.key`
    ignore: (B, S, S) bool, see `Sample.ignore`; None if no image has any, and in evaluation
    original_masks: one (N, H0, W0) bool tensor per image in evaluation, else empty
    original_ignore: one (H0, W0) bool tensor or None per image in evaluation, else empty
    """

    images: Tensor
    uncached: list[int]
    cached: Features | None
    image_size: int
    masks: Tensor
    boxes: Tensor
    labels: Tensor
    object_index: Tensor
    image_index: Tensor
    names: list[str]
    original_sizes: list[Size]
    input_sizes: list[Size]
    keys: list[str]
    ignore: Tensor | None = None
    original_masks: list[Tensor] = field(default_factory=list)
    original_ignore: list[Tensor | None] = field(default_factory=list)

    @property
    def num_objects(self) -> int:
        return len(self.image_index)

    def objects_of(self, image: int) -> Tensor:
        """(N,) positions on the axis M of the objects of one image."""
        return torch.nonzero(self.image_index == image).flatten()

    def select(self, objects: Tensor) -> "Batch":
        """The same images with some of their objects only: (n,) int64 ascending positions on the axis M."""
        picked = {name: getattr(self, name)[objects] for name in ("masks", "boxes", "labels", "object_index")}
        index, original_masks = self.image_index[objects], []
        for image, masks in enumerate(self.original_masks):
            first = torch.searchsorted(self.image_index, image)  # of the image's objects
            original_masks.append(masks[objects[index == image] - first])
        return replace(self, **picked, image_index=index, original_masks=original_masks)

    def sizes(self) -> Tensor:
        """(M, 2) the input size of each object's image: height, width"""
        sizes = torch.tensor(self.input_sizes, dtype=torch.int64).reshape(-1, 2)
        return sizes.to(self.image_index.device, non_blocking=True)[self.image_index]

    def valid_pixels(self) -> Tensor:
        """(M, S, S) bool, true where the input frame holds image and neither padding nor what is to be ignored."""
        side = torch.arange(self.image_size, device=self.masks.device)
        sizes = self.sizes()
        valid = (side < sizes[:, :1])[:, :, None] & (side < sizes[:, 1:])[:, None, :]
        return valid if self.ignore is None else valid & ~self.ignore[self.image_index]


@dataclass
class Prompts(_TensorFields):
    """What is asked about each object, in the input frame; any field may be None.

    boxes: (M, 4) x0, y0, x1, y1 · points: (M, K, 2) x, y with point_labels: (M, K), 1 object, 0 background, -1 padding
    masks: (M, 1, 4s, 4s) float logits of an earlier prediction, over the padded input; other sizes are resized
    """

    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    masks: Tensor | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether all that is known is one point, which may mean a thing, its part, or what it is a part of."""
        single = self.points is not None and self.points.shape[1] == 1
        return single and self.boxes is None and self.masks is None


@dataclass
class Prediction(_TensorFields):
    """What the mask decoder answers.

    logits: (M, C, 4s, 4s), a pixel belongs to the object where > 0 · pred_iou: (M, C), the model's guess of its own IoU
    """

    logits: Tensor
    pred_iou: Tensor

    def best(self) -> "Prediction":
        """The one candidate of each object, C = 1, that the model itself thinks best."""
        if self.pred_iou.shape[1] == 1:
            return self
        rows, chosen = torch.arange(len(self.pred_iou), device=self.pred_iou.device), self.pred_iou.argmax(dim=1)
        return Prediction(self.logits[rows, chosen][:, None], self.pred_iou[rows, chosen][:, None])


def collate(samples: Sequence[Sample], image_size: int) -> Batch:
    """Puts samples that went through `transforms.ResizeLongestSide(image_size)` into one batch.

    An empty list makes a batch of no images: the share of a process that got none of the last, smaller batch.
    """
    counts = [len(sample.masks) for sample in samples]
    sizes = [sample.input_size or sample.size for sample in samples]
    uncached = [index for index, sample in enumerate(samples) if sample.embedding is None]
    images = torch.zeros(len(uncached), 3, image_size, image_size, dtype=torch.uint8)
    for place, index in enumerate(uncached):
        height, width = sizes[index]
        images[place, :, :height, :width] = samples[index].image
    evaluated = any(sample.original_masks is not None for sample in samples)
    side = 0 if evaluated else image_size  # scores are taken in the original frame: these would only fill memory
    masks = torch.zeros(sum(counts), side, side, dtype=torch.bool)
    for own, sample in zip(masks.split(counts), samples, strict=True):
        own[:, : sample.masks.shape[1], : sample.masks.shape[2]] = sample.masks
    ignore = None
    if not evaluated and any(sample.ignore is not None for sample in samples):
        ignore = torch.zeros(len(samples), side, side, dtype=torch.bool)
        for own, sample in zip(ignore, samples, strict=True):
            if sample.ignore is not None:
                own[: sample.ignore.shape[0], : sample.ignore.shape[1]] = sample.ignore
    # stacked as they lie in memory, channels last
    embeddings = [sample.embedding.permute(1, 2, 0) for sample in samples if sample.embedding is not None]

    def join(tensors: list[Tensor], empty: Tensor) -> Tensor:
        return torch.cat(tensors) if tensors else empty

    no_ids = torch.zeros(0, dtype=torch.int64)
    return Batch(
        images=images,
        uncached=uncached,
        cached=Features((torch.stack(embeddings).permute(0, 3, 1, 2),)) if embeddings else None,
        image_size=image_size,
        masks=masks,
        boxes=join([s.boxes for s in samples if s.boxes is not None], torch.zeros(0, 4)),
        labels=join([s.labels for s in samples], no_ids),
        object_index=join([s.object_index for s in samples], no_ids),
        image_index=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts, dtype=torch.int64)),
        names=[s.name for s in samples],
        original_sizes=[s.original_size for s in samples],
        input_sizes=sizes,
        keys=[s.key for s in samples],
        ignore=ignore,
        original_masks=[s.original_masks for s in samples if s.original_masks is not None],
        original_ignore=[s.original_ignore for s in samples if s.original_masks is not None],
    )
