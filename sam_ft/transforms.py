"""What happens to a sample between the file and the batch: augmentation, then the resize to the input side."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from sam_ft.geometry import masks_to_boxes, resize_masks, resized_size, scale_boxes
from sam_ft.types import Sample, Size


class ResizeLongestSide:
    """Resizes a sample so that its longest side is `side`, exactly as SamPredictor does.

    The image is resized by Pillow's bilinear filter on 8 bits, the masks by nearest neighbour. The boxes are taken
    from the masks before, and scaled. Padding to a square is left to `types.collate`.

    keep_original: for evaluation: keeps the masks in the original frame, and every object. Without it, objects so
        small that the resize left no pixel of them are dropped: there is nothing to learn from an empty target.
    """

    def __init__(self, side: int, keep_original: bool = False) -> None:
        self.side = side
        self.keep_original = keep_original

    def __call__(self, sample: Sample) -> Sample:
        old: Size = (sample.image.shape[-2], sample.image.shape[-1])
        new = resized_size(old, self.side)
        resized = replace(
            sample,
            image=resize_image(sample.image, new),
            # scores are taken in the original frame
            masks=sample.masks[:, :0, :0] if self.keep_original else resize_masks(sample.masks, new),
            boxes=scale_boxes(masks_to_boxes(sample.masks), old, new),
            original_masks=sample.masks if self.keep_original else None,
        )
        return resized if self.keep_original else drop_empty(resized)


def resize_image(image: Tensor, size: Size) -> Tensor:
    """Pillow's antialiased bilinear resize, which is what SamPredictor uses.

    image: (3, H, W) uint8 → (3, *size) uint8
    """
    if tuple(image.shape[-2:]) == size:
        return image
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    resized = np.array(pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1).contiguous()


def drop_empty(sample: Sample) -> Sample:
    """The same sample without the objects that have no pixel left."""
    if len(sample.masks) == 0:
        return sample
    keep = sample.masks.view(torch.uint8).flatten(1).amax(dim=1) > 0  # as bytes: 20 times as fast
    return sample if bool(keep.all()) else sample.select(keep)


class Augment:
    """Applies transforms of `torchvision.transforms.v2` to the image and its masks together.

    Geometric ones move both (masks by nearest neighbour), colour ones touch the image only. Objects that they push
    out of the picture are dropped. The randomness is an argument, so the same seed gives the same result in any
    worker, process and order.
    """

    def __init__(self, transforms: Sequence[nn.Module]) -> None:
        self.transforms = list(transforms)

    def __call__(self, sample: Sample, seed: int) -> Sample:
        if not self.transforms:
            return sample
        image = tv_tensors.Image(sample.image)
        # as bytes, since not every kernel of torchvision takes bool; no objects, since some fail on an empty tensor
        masks = tv_tensors.Mask(sample.masks.view(torch.uint8)) if len(sample.masks) else None
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed: that would also queue a seed for CUDA, in every worker, for every image
            torch.default_generator.manual_seed(seed)
            for transform in self.transforms:
                image, masks = transform(image, masks)
        augmented = replace(sample, image=image.as_subclass(Tensor).contiguous())
        if masks is None:
            return replace(augmented, masks=sample.masks.new_zeros(0, *augmented.image.shape[-2:]))
        return drop_empty(replace(augmented, masks=masks.as_subclass(Tensor).contiguous() > 0))


class QuarterTurn(v2.Transform):
    """With probability `p`, turns by 90, 180 or 270 degrees: exact, no pixel is interpolated."""

    def __init__(self, p: float = 0.75) -> None:
        super().__init__()
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        turns = int(torch.randint(1, 4, ()))
        return {"turns": turns if float(torch.rand(())) < self.p else 0}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        turned = torch.rot90(inpt.as_subclass(Tensor), params["turns"], (-2, -1))
        return tv_tensors.wrap(turned, like=inpt)
