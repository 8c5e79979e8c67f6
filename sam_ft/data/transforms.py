"""What happens to a sample between the file and the batch: augmentation, then the resize to the input side."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sam_ft.data.io.id_masks import IdMasks
from sam_ft.types import Sample, Size, dense, dense_parts
from sam_ft.utils.geometry import masks_to_boxes, resize_masks, resized_size, scale_boxes


def resize_longest_side(sample: Sample, side: int) -> Sample:
    """Resizes a sample so that its longest side is `side`, exactly as SamPredictor does, for training.

    Pillow's bilinear filter on 8 bits resizes the image, nearest neighbor the masks. Boxes are taken from the masks
    before, and scaled. Objects so small that no pixel of them is left are dropped: an empty target teaches nothing.
    `collate` pads to a square.
    """
    size = resized_size(sample.size, side)
    ignore = None if sample.ignore is None else resize_masks(sample.ignore[None], size)[0]
    # Compact masks are dense in the original frame only a few at a time.
    parts = [resize_masks(part, size) for part in dense_parts(sample.masks, sample.size)]
    return drop_empty(replace(_resized(sample, size), masks=torch.cat(parts), ignore=ignore))


def resize_for_evaluation(sample: Sample, side: int) -> Sample:
    """The same for evaluation, which takes scores in the original frame: every object stays, the masks are left out."""
    none = torch.zeros(len(sample.masks), 0, 0, dtype=torch.bool)
    return replace(_resized(sample, resized_size(sample.size, side)), masks=none, ignore=None)


def _resized(sample: Sample, size: Size) -> Sample:
    """Image and boxes at another size."""
    image = resize_image(sample.image, size) if sample.image.numel() else sample.image
    boxes = scale_boxes(boxes_of(sample), sample.size, size)
    return replace(sample, image=image, size=size, boxes=boxes)


def boxes_of(sample: Sample) -> Tensor:
    """(N, 4) the tight boxes of a sample's masks, of which at most a few are dense at a time."""
    if hasattr(sample.masks, "boxes"):
        return sample.masks.boxes()
    return torch.cat([masks_to_boxes(part) for part in dense_parts(sample.masks, sample.size)])


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Pillow's antialiased bilinear resize, as in SamPredictor.

    image: (3, H, W) uint8 → (3, *size) uint8
    """
    if tuple(image.shape[-2:]) == size:
        return image
    # Pillow and not torch: its antialiased filter rounds differently, and SamPredictor uses it.
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def drop_empty(sample: Sample) -> Sample:
    """The same sample without the objects that have no pixel left."""
    if len(sample.masks) == 0:
        return sample
    keep = dense(sample.masks).view(torch.uint8).flatten(1).amax(dim=1) > 0  # as bytes: 20 times as fast
    return sample if bool(keep.all()) else sample.select(keep)


class Augment:
    """Applies transforms of `torchvision.transforms.v2` to the image and its masks together.

    Geometric ones move both (masks by nearest neighbor), color ones touch the image only. Objects that they push
    out of the picture are dropped. The randomness is an argument, so the same seed gives the same result in any
    worker, process and order.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self.transforms = list(transforms)

    @property
    def not_cacheable(self) -> list[str]:
        """The transforms that do more than the 8 views of `dihedral`, so no embedding could be used again."""
        if not self.transforms:
            return []
        from torchvision.transforms import v2  # here, because it takes two seconds that most runs need not wait for

        exact = (v2.RandomHorizontalFlip, v2.RandomVerticalFlip, QuarterTurn)
        return [type(transform).__name__ for transform in self.transforms if type(transform) not in exact]

    def view(self, seed: int) -> int:
        """Which of the 8 views of `dihedral` a seed draws; only if nothing is `not_cacheable`."""
        if not self.transforms:
            return 0
        # Six different pixels in a 2 × 3 picture: all 8 views of it differ, so it shows which one was drawn.
        marker = torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3)
        moved, _ = self._apply(marker, None, seed)
        return next(view for view in range(8) if torch.equal(dihedral(marker, view), moved))

    def __call__(self, sample: Sample, seed: int) -> Sample:
        if not self.transforms:
            return sample
        if not self.not_cacheable:
            return dihedral_sample(sample, self.view(seed))
        if isinstance(sample.masks, IdMasks) and len(sample.masks) > len(sample.masks.layers):
            return self._move_ids(sample, sample.masks, seed)
        # The ignore mask moves along as one more mask.
        masks = dense(sample.masks)
        masks = masks if sample.ignore is None else torch.cat([masks, sample.ignore[None]])
        # as bytes, since not every kernel of torchvision takes bool; no objects, since some fail on an empty tensor
        image, moved = self._apply(sample.image, masks.view(torch.uint8) if len(masks) else None, seed)
        size = (image.shape[-2], image.shape[-1])
        if moved is None:
            return replace(sample, image=image, size=size, masks=torch.zeros(0, *size, dtype=torch.bool))
        # Apart again: (N, H, W) and (1, H, W), or (0, H, W) without one.
        masks, ignore = (moved > 0).split([len(sample.masks), len(masks) - len(sample.masks)])
        ignored = None if sample.ignore is None else ignore[0]
        return drop_empty(replace(sample, image=image, size=size, masks=masks, ignore=ignored))

    def _move_ids(self, sample: Sample, masks: IdMasks, seed: int) -> Sample:
        """The same for masks in a few id maps, which move by nearest neighbor as the masks would: far less memory."""
        layers = [layer.to(torch.int32) for layer in masks.layers]
        layers += [] if sample.ignore is None else [sample.ignore.to(torch.int32)]
        image, moved = self._apply(sample.image, torch.stack(layers), seed)
        assert moved is not None
        size = (image.shape[-2], image.shape[-1])
        maps = tuple(new.to(old.dtype) for new, old in zip(moved, masks.layers, strict=False))
        ignore = None if sample.ignore is None else moved[-1] > 0
        found = IdMasks(maps, masks.layer_of, masks.ids)
        keep = torch.nonzero(found.areas > 0).flatten()
        return replace(
            sample,
            image=image,
            size=size,
            masks=IdMasks(maps, masks.layer_of[keep], masks.ids[keep]),
            labels=sample.labels[keep],
            object_index=sample.object_index[keep],
            boxes=None if sample.boxes is None else sample.boxes[keep],
            ignore=ignore,
        )

    def _apply(self, image: Tensor, masks: Tensor | None, seed: int) -> tuple[Tensor, Tensor | None]:
        from torchvision import tv_tensors

        image, masks = tv_tensors.Image(image), None if masks is None else tv_tensors.Mask(masks)
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: that would also queue a seed for CUDA, in every worker, for every image
            torch.default_generator.manual_seed(seed)
            for transform in self.transforms:
                image, masks = transform(image, masks)
        return image.as_subclass(Tensor).contiguous(), None if masks is None else masks.as_subclass(Tensor).contiguous()


def dihedral(pixels: Tensor, view: int) -> Tensor:
    """One of the 8 views of a picture in the dihedral group D4: mirrored if view > 3, then view % 4 quarter turns.

    pixels: (..., H, W) → (..., H, W) or (..., W, H)
    """
    return torch.rot90(pixels.flip(-1) if view > 3 else pixels, view % 4, (-2, -1))


def dihedral_sample(sample: Sample, view: int) -> Sample:
    """A sample in one of the 8 views of `dihedral`, with or without its pixels."""
    if view == 0:
        return sample
    image, masks = dihedral(sample.image, view).contiguous(), dihedral(dense(sample.masks), view).contiguous()
    ignore = None if sample.ignore is None else dihedral(sample.ignore, view).contiguous()
    return replace(sample, image=image, size=(masks.shape[-2], masks.shape[-1]), masks=masks, ignore=ignore)


class QuarterTurn(nn.Module):
    """With probability `p`, turns by 90, 180 or 270 degrees: exact, no pixel is interpolated."""

    def __init__(self, p: float = 0.75) -> None:
        super().__init__()
        self.p = p

    def forward(self, *pictures: Tensor | None) -> tuple[Tensor | None, ...]:
        """Turns all pictures (..., H, W) alike; each keeps its type, image or mask."""
        # Both numbers are always drawn, so that later transforms do not depend on the outcome.
        turns = int(torch.randint(1, 4, ()))
        turns = turns if float(torch.rand(())) < self.p else 0
        return tuple(
            None if x is None else _like(torch.rot90(x.as_subclass(Tensor), turns, (-2, -1)), x) for x in pictures
        )


def _like(turned: Tensor, like: Tensor) -> Tensor:
    from torchvision import tv_tensors

    return tv_tensors.wrap(turned, like=like) if isinstance(like, tv_tensors.TVTensor) else turned
