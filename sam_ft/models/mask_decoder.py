"""The mask decoder: from the embeddings of image and prompts to masks and their predicted IoU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models.layers import DeepMlp, Gelu, LayerNorm2d, inner_products
from sam_ft.models.transformer import TwoWayTransformer
from sam_ft.types import Prediction


class MaskDecoder(nn.Module):
    """Output tokens that go through a two-way transformer and then weigh the channels of the upscaled image.

    Mask token 0 predicts the mask of a clear prompt (`multimask=False`), tokens 1 to `num_multimask` the three of an
    ambiguous one.
    """

    def __init__(
        self, dim: int = 256, num_multimask: int = 3, depth: int = 2, num_heads: int = 8, mlp_dim: int = 2048
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(dim, depth, num_heads, mlp_dim)
        self.num_mask_tokens = num_multimask + 1
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            Gelu(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            Gelu(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            DeepMlp(dim, dim, dim // 8, depth=3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = DeepMlp(dim, dim, self.num_mask_tokens, depth=3)

    def forward(
        self,
        embedding: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        image_index: Tensor,
        multimask: bool | None,
    ) -> Prediction:
        """Decodes the objects of all images at once; M and B may be 0.

        embedding: (B, dim, s, s) · image_pe: (1, dim, s, s) · sparse: (M, K, dim) · dense: (M, dim, s, s)
        image_index: (M,) int64 in [0, B)
        → logits (M, C, 4s, 4s) and pred_iou (M, C), float32; C is 3 if multimask else 1; if it is None, 4: the single
            mask, then these three
        """
        # Tokens of each object: 1 for the IoU, 4 for the masks, then its prompts: (M, 5 + K, dim).
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        # Each object gets its own copy of its image's embedding, with its mask prompt added: (M, s², dim).
        image = _pixels(embedding).contiguous()[image_index] + _pixels(dense)
        # Only the heads of the returned masks run: the others must get no gradient, not even zeros.
        every = range(self.num_mask_tokens)
        mask_ids = every if multimask is None else every[1:] if multimask else every[:1]
        tokens, image = self.transformer(image, _pixels(image_pe).contiguous(), tokens, num_outputs=1 + mask_ids.stop)

        # The hypernetworks turn each mask token into weights of the dim / 8 upscaled channels: (M, C, dim / 8).
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in mask_ids], dim=1)
        logits = self._weigh_upscaled(image, weights, embedding.shape[-1])
        # The head predicts all 4 candidates at once; C of them are returned.
        pred_iou = self.iou_prediction_head(tokens[:, 0])[:, mask_ids.start : mask_ids.stop]
        # float32 also under autocast: logits are upsampled, thresholded and summed over many pixels.
        return Prediction(logits=logits.float(), pred_iou=pred_iou.float())

    def _weigh_upscaled(self, image: Tensor, weights: Tensor, side: int) -> Tensor:
        """Upscales the image twice and weighs its channels. Wide maps keep their channels last in memory.

        image: (M, s², dim) · weights: (M, C, dim / 8) → logits (M, C, 4s, 4s)
        """
        upscale, norm, gelu, upscale_again, _ = self.output_upscaling
        x = _to_subpixels(image, upscale)  # (M, s², 4, dim / 4)
        x = gelu(norm(x.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)  # permuted views, for LayerNorm2d
        x = gelu(_to_subpixels(x, upscale_again))  # (M, s², 4, 4, dim / 8)
        logits = inner_products(weights, x.flatten(1, 3))
        # (y, x) of the pixel, of its subpixel, of that one's subpixel: put into image order now that the map is narrow
        logits = logits.unflatten(2, (side, side, 2, 2, 2, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7)
        return logits.reshape(*weights.shape[:2], 4 * side, 4 * side)


def _pixels(images: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H · W, C), a view"""
    return images.flatten(2).transpose(1, 2)


def _to_subpixels(x: Tensor, upscale: nn.Module) -> Tensor:
    """A transposed convolution of kernel 2 and stride 2, computed as a linear map from a pixel to 2 × 2 subpixels.

    x: (..., in) → (..., 4, out)
    """
    weight, bias = upscale.get_parameter("weight"), upscale.get_parameter("bias")
    # weight: (in, out, 2, 2) → (4 · out, in), with the subpixels row by row.
    return F.linear(x, weight.permute(2, 3, 1, 0).flatten(0, 2), bias.repeat(4)).unflatten(-1, (4, len(bias)))
