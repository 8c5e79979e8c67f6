"""The data classes of the project. Read this file first.

B images of a batch · M objects of the whole batch · N objects of one image · K points · C candidate masks
S input side of the model · s side of the image embedding

The objects of all images lie on one axis M, with `image_index` pointing back to the image each belongs to. So a
batch may hold images of different sizes with any number of objects each, and the decoder runs once for all of them.

Coordinates are x, y in pixels with the origin at the top left corner. The *original frame* is the image as it was
read; the *input frame* is the same image with its longest side resized to S, padded at the right and bottom.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

Size = tuple[int, int]  # (height, width) in pixels
OBJECT = {1: "object"}  # the class of objects without one
NOTHING_ELSEWHERE = -(2**31)  # no label, see `Sample.elsewhere`
DENSE_PIXELS = 2**25  # of masks that `dense_parts` makes dense at a time: 32 MB
T = TypeVar("T", bound="TensorFields")


class TensorFields:
    """Moves every tensor among a dataclass's fields, also those in lists and in nested nouns."""

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: T) -> T:
        """Called by torch's DataLoader, so that copies to the GPU overlap with computation."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: T, move: Callable[[Tensor], Tensor]) -> T:
        def visit(value: Any) -> Any:
            if isinstance(value, Tensor):
                return move(value)
            if isinstance(value, TensorFields):
                return value._map(move)
            if isinstance(value, (list, tuple)) and any(isinstance(item, (Tensor, TensorFields)) for item in value):
                return type(value)(visit(item) for item in value)
            return value

        noun: Any = self  # every subclass is a dataclass, which this base class cannot express
        return replace(noun, **{f.name: visit(getattr(noun, f.name)) for f in fields(noun)})


class Masks(Protocol):
    """The masks of N objects in one frame: a (N, H, W) bool tensor, or a compact form that makes dense what is read.

    Compact forms are `TensorFields`: `data.io.id_masks.IdMasks` and `data.sources.run_lengths.RunLengthMasks`. One that
    knows the boxes of all masks may also have `boxes() -> (N, 4)`, which is faster than to read them from the masks.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor, /) -> Tensor:
        """(n,) int64 positions → (n, H, W) bool"""
        ...


def dense(masks: Masks) -> Tensor:
    """All masks as one (N, H, W) bool tensor."""
    return masks if isinstance(masks, Tensor) else masks[torch.arange(len(masks))]


def dense_parts(masks: Masks, size: Size) -> Iterator[Tensor]:
    """The masks in order, dense a few at a time: (n, *size) bool each; one empty part if there are none."""
    count = max(1, DENSE_PIXELS // max(1, size[0] * size[1]))
    if isinstance(masks, Tensor):
        yield from masks.split(count)  # views
        return
    for positions in torch.arange(len(masks)).split(count):
        yield masks[positions]


@dataclass
class Sample:
    """One image with its objects, all in one frame: the original one as read, the input frame once resized.

    image: (3, H, W) uint8 RGB; (3, 0, 0) where its features are cached and no pixels are needed
    masks: N, each non-empty; in the original frame dense or compact, see `Masks`; in the input frame a (N, H, W) bool
        tensor, (N, 0, 0) in evaluation
    labels: (N,) int64 class or instance ids
    size: (H, W) of the frame, also where the pixels or the masks are left out
    object_index: (N,) int64, rank of each object in its image before any were left out
    boxes: (N, 4) float32 x0, y0, x1, y1, tight round each mask before it was resized, so that an object smaller than
        a pixel of the input keeps its place; None until then
    ignore: (H, W) bool, pixels that count in no loss and no score; None if there are none
    maps: (C, 4s, 4s) float32 that a head learns, nan where they do not count; None without a head, and in evaluation
    extremes: (2,) float32, of a tile the smallest and the largest value of its image at the input side; else None
    elsewhere: (H, W) int64, of a tile in evaluation the labels of objects that count in other tiles, else
        `NOTHING_ELSEWHERE`; None without tiles
    """

    image: Tensor
    masks: Masks
    labels: Tensor
    name: str
    size: Size
    object_index: Tensor
    boxes: Tensor | None = None
    ignore: Tensor | None = None
    maps: Tensor | None = None
    extremes: Tensor | None = None
    elsewhere: Tensor | None = None

    def select(self, keep: Tensor) -> "Sample":
        """The same image with only the objects at `keep`, their masks dense: (n,) int64 positions or (N,) bool."""
        keep = torch.nonzero(keep).flatten() if keep.dtype == torch.bool else keep
        return replace(
            self,
            masks=self.masks[keep],
            labels=self.labels[keep],
            object_index=self.object_index[keep],
            boxes=None if self.boxes is None else self.boxes[keep],
        )


@dataclass
class Features(TensorFields):
    """The maps of a batch of images at one cut of the encoder, computed once for all prompts.

    maps: each (B, ...); after the neck of SAM 1 it is the image embedding alone, (B, 256, s, s)
    """

    maps: tuple[Tensor, ...]

    @property
    def embedding(self) -> Tensor:
        """(B, 256, s, s): the map that the mask decoder reads."""
        return self.maps[-1]

    def image(self, index: int) -> "Features":
        """The features of one image of the batch, B = 1."""
        return Features(tuple(one[index : index + 1] for one in self.maps))


@dataclass
class Original(TensorFields):
    """Ground truth of one image in its original frame, in which scores are taken.

    masks: N, dense or compact, see `Masks` · ignore: (H, W) bool or None · size: (H, W) · elsewhere: see `Sample`
    """

    masks: Masks
    ignore: Tensor | None
    size: Size
    elsewhere: Tensor | None = None

    @property
    def uncounted(self) -> Tensor | None:
        """(H, W) bool: pixels that count in no score of instances without prompts; None if all count."""
        if self.elsewhere is None:
            return self.ignore
        there = self.elsewhere != NOTHING_ELSEWHERE
        return there if self.ignore is None else there | self.ignore


@dataclass
class Batch(TensorFields):
    """Images, or their features, and all their objects on one axis.

    images: (B, 3, S, S) uint8, zero where padded; None where there are features, unless a head needs the pixels too
    features: of all B images; None where they are not cached
    masks: (M, S, S) bool, (M, 0, 0) in evaluation · boxes: (M, 4), see `Sample.boxes`
    labels, object_index: (M,) int64 · image_index: (M,) int64 in [0, B), ascending
    names, sizes: one per image; `sizes` is the part of S × S that is not padding
    ignore: (B, S, S) bool, see `Sample.ignore`; None if no image has any, and in evaluation
    originals: one per image in evaluation, else empty
    maps: (B, C, 4s, 4s) float32, see `Sample.maps`
    extremes: (B, 2) float32, see `Sample.extremes`, nan for whole images; None if all are whole
    """

    images: Tensor | None
    features: Features | None
    masks: Tensor
    boxes: Tensor
    labels: Tensor
    object_index: Tensor
    image_index: Tensor
    names: list[str]
    sizes: list[Size]
    ignore: Tensor | None = None
    originals: list[Original] = field(default_factory=list)
    maps: Tensor | None = None
    extremes: Tensor | None = None

    @property
    def num_objects(self) -> int:
        return len(self.image_index)

    @property
    def image_size(self) -> int:
        """S, which is the longest side of every image."""
        return max(self.sizes[0]) if self.sizes else self.masks.shape[-1]

    def objects_of(self, image: int) -> Tensor:
        """(N,) positions on the axis M of the objects of one image."""
        return torch.nonzero(self.image_index == image).flatten()

    def select(self, objects: Tensor) -> "Batch":
        """The same images with some of their objects only: (n,) int64 ascending positions on the axis M.

        Their masks become dense in the originals too.
        """
        picked = {name: getattr(self, name)[objects] for name in ("masks", "boxes", "labels", "object_index")}
        # Originals hold the masks of their own image only, so positions on M become positions in the image.
        index, originals = self.image_index[objects], []
        for image, original in enumerate(self.originals):
            first = torch.searchsorted(self.image_index, image)  # of the image's objects
            originals.append(replace(original, masks=original.masks[objects[index == image] - first]))
        return replace(self, **picked, image_index=index, originals=originals)

    def image(self, index: int) -> "Batch":
        """One image of the batch with its objects, B = 1; views of the same memory."""
        ends = torch.tensor([index, index + 1], device=self.image_index.device)
        objects, here = slice(*torch.searchsorted(self.image_index, ends).tolist()), slice(index, index + 1)
        return Batch(
            images=None if self.images is None else self.images[here],
            features=None if self.features is None else self.features.image(index),
            masks=self.masks[objects],
            boxes=self.boxes[objects],
            labels=self.labels[objects],
            object_index=self.object_index[objects],
            image_index=torch.zeros_like(self.image_index[objects]),
            names=self.names[here],
            sizes=self.sizes[here],
            ignore=None if self.ignore is None else self.ignore[here],
            originals=self.originals[here],
            maps=None if self.maps is None else self.maps[here],
            extremes=None if self.extremes is None else self.extremes[here],
        )

    def object_sizes(self) -> Tensor:
        """(M, 2): height and width of each object's image in the input frame."""
        sizes = torch.tensor(self.sizes, dtype=torch.int64).reshape(-1, 2)
        return sizes.to(self.image_index.device, non_blocking=True)[self.image_index]

    def valid_pixels(self) -> Tensor:
        """(M, S, S) bool, true where the input frame holds neither padding nor pixels to ignore."""
        side = torch.arange(self.image_size, device=self.masks.device)
        sizes = self.object_sizes()
        # (M, S, 1) & (M, 1, S): rows and columns that are not padding.
        valid = (side < sizes[:, :1])[:, :, None] & (side < sizes[:, 1:])[:, None, :]
        return valid if self.ignore is None else valid & ~self.ignore[self.image_index]


@dataclass
class Prompts(TensorFields):
    """The prompts of all objects, in the input frame; any field may be None.

    boxes: (M, 4) x0, y0, x1, y1 · points: (M, K, 2) x, y with point_labels: (M, K), 1 object, 0 background, -1 padding
    masks: (M, 1, 4s, 4s) float logits of an earlier prediction, over the padded input; other sizes are resized
    """

    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    masks: Tensor | None = None

    @property
    def ambiguous(self) -> bool:
        """Whether all prompts are a single point, which may mean an object, its part, or a larger whole."""
        single = self.points is not None and self.points.shape[1] == 1
        return single and self.boxes is None and self.masks is None


@dataclass
class Prediction(TensorFields):
    """The output of the mask decoder.

    logits: (M, C, 4s, 4s), a pixel belongs to the object where > 0
    pred_iou: (M, C), the IoU with the ground truth that the model predicts for each candidate
    """

    logits: Tensor
    pred_iou: Tensor

    def best(self) -> "Prediction":
        """The candidate of each object with the highest pred_iou, C = 1."""
        if self.pred_iou.shape[1] == 1:
            return self
        rows, chosen = torch.arange(len(self.pred_iou), device=self.pred_iou.device), self.pred_iou.argmax(dim=1)
        return Prediction(self.logits[rows, chosen][:, None], self.pred_iou[rows, chosen][:, None])
