"""The whole model: image encoder, prompt encoder, mask decoder, and SamPredictor's pre- and postprocessing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models.encoders.encoder import ImageEncoder
from sam_ft.models.heads import MapHead
from sam_ft.models.mask_decoder import MaskDecoder
from sam_ft.models.prompt_encoder import PromptEncoder
from sam_ft.types import Features, Prediction, Prompts, Size

Normalize = Literal["imagenet", "minmax"]


class Sam(nn.Module):
    """Segment Anything (Kirillov et al. 2023): encode images once, then decode any number of prompts.

    model_type: its name in `build.SPECS` · image_size: S, side of the padded input
    normalize: "imagenet" takes SAM's mean and deviation, "minmax" scales each image to [0, 1] (LiteMedSAM)
    base_sha256: digest of the checkpoint file whose weights it holds, set when they are loaded; it also names updates
        that were merged into them
    tuned: names of frozen parameters that an earlier run trained on top of that checkpoint
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        model_type: str,
        image_size: int,
        normalize: Normalize = "imagenet",
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.model_type = model_type
        self.image_size = image_size
        self.normalize = normalize
        self.base_sha256: str | None = None
        self.head_name: str | None = None
        self.tuned: frozenset[str] = frozenset()
        # ImageNet's, for values of 0 to 255. Not persistent: the official state dicts do not hold them.
        mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
        self.register_buffer("pixel_mean", mean[:, None, None], persistent=False)
        self.register_buffer("pixel_std", std[:, None, None], persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def attach_head(self, head: MapHead) -> None:
        """Adds a head for what needs no prompts; its parameters are called by its name."""
        self.add_module(head.name, head.to(self.device))
        self.head_name = head.name

    @property
    def head(self) -> MapHead | None:
        return None if self.head_name is None else self.get_submodule(self.head_name)  # type: ignore[return-value]

    def head_parameters(self) -> list[nn.Parameter]:
        return [] if self.head is None else list(self.head.parameters())

    @property
    def mask_side(self) -> int:
        """4s, the side of the logits that `decode` returns and of the masks that it takes as prompts."""
        return 4 * self.prompt_encoder.image_embedding_size

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """(256, s, s): of one image's embedding."""
        side = self.prompt_encoder.image_embedding_size
        return (self.prompt_encoder.embed_dim, side, side)

    def preprocess(self, images: Tensor, input_sizes: Sequence[Size], extremes: Tensor | None = None) -> Tensor:
        """Normalizes the images and leaves their padding at zero.

        images: (B, 3, S, S) uint8 RGB, padded right and bottom · input_sizes: the part that is not padding
        extremes: (B, 2) the values that "minmax" scales to 0 and 1, where images are tiles of larger ones; nan or None
            for the smallest and the largest of each image, see `value_extremes`
        → (B, 3, S, S) float32
        """
        inside = _inside(input_sizes, images.shape[-1], images.device)
        pixels = images.float()
        if self.normalize == "imagenet":
            pixels = (pixels - self.pixel_mean) / self.pixel_std
        else:
            found = value_extremes(images, input_sizes)
            if extremes is not None:
                extremes = extremes.to(found)
                found = torch.where(extremes.isnan(), found, extremes)
            low, high = found[:, :, None, None, None].unbind(dim=1)
            pixels = (pixels - low) / (high - low).clamp(min=1e-8)
        # After the normalization, as SamPredictor does: padding is zero, not the darkest color.
        return pixels.masked_fill(~inside, 0.0)

    def encode(self, images: Tensor, input_sizes: Sequence[Size], extremes: Tensor | None = None) -> Features:
        """Embeds images once for all prompts that follow: see `preprocess` → embedding (B, 256, s, s)."""
        return self.suffix(self.prefix(images, input_sizes, extremes=extremes))

    def prefix(
        self, images: Tensor, input_sizes: Sequence[Size], cut: int | None = None, extremes: Tensor | None = None
    ) -> Features:
        """Preprocesses images, then runs the units of the encoder before its cut: → the map at the cut."""
        return self.image_encoder.prefix(self.preprocess(images, input_sizes, extremes), cut)

    def suffix(self, features: Features, cut: int | None = None) -> Features:
        """Runs the units of the encoder after its cut: features of `prefix` → embedding (B, 256, s, s)."""
        return self.image_encoder.suffix(features, cut)

    def decode(self, features: Features, prompts: Prompts, image_index: Tensor, multimask: bool = False) -> Prediction:
        """Predicts the masks of all objects from their prompts at once.

        prompts: in the input frame · image_index: (M,) int64, the image in `features` that holds each object
        → logits (M, C, 4s, 4s) over the padded input and pred_iou (M, C); C is 3 if multimask else 1
        """
        side = (self.mask_side, self.mask_side)
        # Mask prompts are 256 wide for SAM; a model at another input side has another grid.
        if prompts.masks is not None and prompts.masks.shape[-2:] != side:
            prompts = replace(prompts, masks=F.interpolate(prompts.masks, side, mode="bilinear", align_corners=False))
        sparse, dense = self.prompt_encoder(prompts, num_objects=len(image_index))
        image_pe = self.prompt_encoder.dense_pe()
        return self.mask_decoder(features.embedding, image_pe, sparse, dense, image_index, multimask)

    def postprocess(self, logits: Tensor, input_size: Size, original_size: Size) -> Tensor:
        """Resizes the logits of one image to its original frame as SamPredictor does; the mask is where they are > 0.

        logits: (N, C, 4s, 4s) → (N, C, H, W) of `original_size`
        """
        # Two resizes with a crop of the padding between them, as in SamPredictor: a single one gives other edges.
        side = (self.image_size, self.image_size)
        logits = F.interpolate(logits, side, mode="bilinear", align_corners=False)
        logits = logits[..., : input_size[0], : input_size[1]]
        if input_size == original_size:
            return logits  # the second resize would only copy them
        return F.interpolate(logits, original_size, mode="bilinear", align_corners=False)


def value_extremes(images: Tensor, input_sizes: Sequence[Size]) -> Tensor:
    """The smallest and the largest value of each image without its padding, all channels together.

    Of an image in tiles, "minmax" takes the smallest and the largest of all tiles.

    images: (B, 3, S, S) uint8 · input_sizes: the part that is not padding → (B, 2) float32
    """
    pixels, inside = images.float(), _inside(input_sizes, images.shape[-1], images.device)
    low = pixels.masked_fill(~inside, torch.inf).amin(dim=(1, 2, 3))
    return torch.stack([low, pixels.masked_fill(~inside, -torch.inf).amax(dim=(1, 2, 3))], dim=1)


def _inside(input_sizes: Sequence[Size], side: int, device: torch.device) -> Tensor:
    """(B, 1, side, side) bool, true where the input frame holds image and not padding."""
    place = torch.arange(side, device=device)
    sizes = torch.tensor(input_sizes, device=device).reshape(-1, 2, 1)
    return ((place < sizes[:, 0])[:, :, None] & (place < sizes[:, 1])[:, None, :])[:, None]
