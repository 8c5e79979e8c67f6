"""The two ONNX graphs of a model, with the inputs and outputs that clients of SAM's ONNX files share.

Prompts are in SAM's frame, where the longest side of the image is `FRAME` px and a mask input has `MASK_SIDE` px,
whatever the model's own input side. Sources of the interfaces: scripts/export_onnx_model.py of segment-anything for the
decoder, samexporter for the encoder.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models import Sam

FRAME, MASK_SIDE = 1024, 256
BACKGROUND, OBJECT_POINT, TOP_LEFT, PADDING = 0, 1, 2, -1  # labels of points; 3 is the other corner of a box


class EncoderGraph(nn.Module):
    """Embeds an image of any size, which is resized, normalized and padded in the graph."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_image: Tensor) -> Tensor:
        """input_image: (H, W, 3) float32 RGB, 0 to 255 → (1, 256, s, s)"""
        side = self.model.image_size
        height, width = symbolic_resized_size(input_image.shape[0], input_image.shape[1], side)
        pixels = input_image.permute(2, 0, 1)[None]
        # As Pillow, with which SamPredictor resizes: first the width, then the height, both rounded, a half upwards.
        for size in ((pixels.shape[2], width), (height, width)):
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
            pixels = (pixels + 0.5).floor().clamp(0, 255)
        if self.model.normalize == "imagenet":
            pixels = (pixels - self.model.pixel_mean) / self.model.pixel_std
        else:
            low, high = pixels.flatten().min(), pixels.flatten().max()
            pixels = (pixels - low) / (high - low).clamp(min=1e-8)
        return self.model.image_encoder(F.pad(pixels, (0, side - width, 0, side - height)))


class DecoderGraph(nn.Module):
    """Predicts the mask of one object in the frame of its image.

    Padding points of the client are dropped, and one is added where SamPredictor adds it. So all clients get the masks
    of SamPredictor: some pad boxes too, and some do not pad points.
    """

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decodes the prompts of one object.

        image_embeddings: (1, 256, s, s) · point_coords: (1, K, 2) x, y in SAM's frame
        point_labels: (1, K), 1 object, 0 background, 2 and 3 corners of a box, -1 padding
        mask_input: (1, 1, 256, 256) logits of an earlier prediction, used if has_mask_input (1,) is above 0
        orig_im_size: (2,) H, W; all are float32
        → masks (1, 1, H, W) logits, iou_predictions (1, 1), low_res_masks (1, 1, 256, 256)
        """
        decoder, encoder = self.model.mask_decoder, self.model.prompt_encoder
        sparse = self._embed_points(point_coords, point_labels)
        dense = self._embed_mask(mask_input, has_mask_input)
        index = torch.zeros(1, dtype=torch.int64)
        found = decoder(image_embeddings, encoder.dense_pe(), sparse, dense, index, multimask=None)
        # Token 0 predicts the mask, or for a single click, which is ambiguous, the best of tokens 1 to 3.
        single = (point_labels != PADDING).sum().eq(1) & (point_labels < TOP_LEFT).all() & (has_mask_input <= 0)
        chosen = torch.where(single, 1 + found.pred_iou[:, 1:].argmax(dim=1), 0)
        logits, pred_iou = found.logits[:, chosen], found.pred_iou[:, chosen]
        return self._to_image(logits, orig_im_size), pred_iou, resize(logits, (MASK_SIDE, MASK_SIDE))

    def _embed_points(self, coords: Tensor, labels: Tensor) -> Tensor:
        """→ (1, K', 256)"""
        encoder = self.model.prompt_encoder
        clicks = (labels == OBJECT_POINT) | (labels == BACKGROUND)
        needs_padding = clicks.any(dim=1, keepdim=True) & (labels < TOP_LEFT).all(dim=1, keepdim=True)
        place = torch.nonzero(torch.cat([labels != PADDING, needs_padding], dim=1)[0])[:, 0]
        # The padding point is the last one.
        coords = torch.cat([coords * (self.model.image_size / FRAME), torch.zeros(1, 1, 2)], dim=1)[:, place]
        labels = torch.cat([labels, torch.full((1, 1), float(PADDING))], dim=1)[:, place, None]
        embedding = encoder.embed_coordinates(coords)
        for label, own in enumerate(encoder.point_embeddings):
            embedding = embedding + torch.where(labels == label, own.get_parameter("weight"), 0.0)
        return torch.where(labels == PADDING, encoder.not_a_point_embed.weight, embedding)

    def _embed_mask(self, mask: Tensor, has_mask: Tensor) -> Tensor:
        """→ (1, 256, s, s)"""
        encoder = self.model.prompt_encoder
        given = encoder.mask_downscaling(resize(mask, (self.model.mask_side, self.model.mask_side)))
        # Above 0: osam passes -1 for no mask.
        return torch.where(has_mask.reshape(1, 1, 1, 1) > 0, given, encoder.no_mask_embed.weight[:, :, None, None])

    def _to_image(self, logits: Tensor, size: Tensor) -> Tensor:
        """As `Sam.postprocess`, with the size of the image as a tensor: (1, 1, 4s, 4s) → (1, 1, H, W)"""
        lengths: list[Any] = [size[axis].round().long().item() for axis in (0, 1)]  # symbolic while they are traced
        height, width = lengths
        for length in (height, width):
            torch._check(length >= 1)
            torch._check(length <= 2**20)
        side = self.model.image_size
        rows, columns = symbolic_resized_size(height, width, side)
        for length in (rows, columns):
            torch._check(length >= 1)
            torch._check(length <= side)
        logits = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)[..., :rows, :columns]
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


def symbolic_resized_size(height: int, width: int, side: int) -> tuple[int, int]:
    """As `resized_size`, in whole numbers, which the exporter can trace as functions of the image's size."""
    longest = torch.sym_max(height, width)
    # A half rounds up, and no side becomes 0.
    rows, columns = (torch.sym_max(1, (2 * side * length + longest) // (2 * longest)) for length in (height, width))
    return rows, columns  # type: ignore[return-value]  # symbolic while it is traced


def resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return logits if logits.shape[-2:] == size else F.interpolate(logits, size, mode="bilinear", align_corners=False)
