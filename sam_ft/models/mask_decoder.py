"""The mask decoder: from the embeddings of image and prompts to masks and their expected quality."""

import torch
from torch import Tensor, nn

from sam_ft.models.layers import DeepMlp, LayerNorm2d
from sam_ft.models.transformer import TwoWayTransformer
from sam_ft.types import Prediction


class MaskDecoder(nn.Module):
    """Output tokens that go through a two-way transformer and then weigh the channels of the upscaled image.

    Token 0 answers a clear prompt (`multimask=False`), tokens 1 to `num_multimask` read a vague one in turn.
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
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
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
        multimask: bool,
    ) -> Prediction:
        """Decodes the objects of all images at once; M and B may be 0.

        embedding: (B, dim, s, s) · image_pe: (1, dim, s, s) · sparse: (M, K, dim) · dense: (M, dim, s, s)
        image_index: (M,) int64 in [0, B)
        → logits (M, C, 4s, 4s) and iou (M, C), float32; C is 3 if multimask else 1
        """
        side = embedding.shape[-1]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        image = (embedding[image_index] + dense).flatten(2).transpose(1, 2)
        tokens, image = self.transformer(image, image_pe.flatten(2).transpose(1, 2), tokens)
        upscaled = self.output_upscaling(image.transpose(1, 2).unflatten(2, (side, side)))

        # Only the heads of the masks that are asked for run: the others must get no gradient, not even zeros.
        wanted = range(1, self.num_mask_tokens) if multimask else range(1)
        weights = torch.stack([self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in wanted], dim=1)
        logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        iou = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]
        # float32 also under autocast: logits are upsampled, thresholded and summed over many pixels.
        return Prediction(logits=logits.float(), iou=iou.float())
