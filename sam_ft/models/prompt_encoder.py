"""Turns points, boxes and coarse masks into the embeddings that the mask decoder reads."""

import math

import torch
from torch import Tensor, nn

from sam_ft.models.layers import LayerNorm2d
from sam_ft.types import Prompts


class PromptEncoder(nn.Module):
    """Sparse embeddings for points and box corners, a dense one for the mask of an earlier prediction.

    image_embedding_size: s, side of the image embedding · input_side: S, side of the padded input in pixels
    """

    def __init__(self, embed_dim: int, image_embedding_size: int, input_side: int, mask_in_chans: int = 16) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_embedding_size = image_embedding_size
        self.input_side = input_side
        self.pe_layer = RandomFourierPosition(embed_dim // 2)
        # Background point, object point, top left corner, bottom right corner.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        # For padding points, which are no position.
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            # From 4s to s: a mask prompt has the side of the decoder's logits.
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def forward(self, prompts: Prompts, num_objects: int) -> tuple[Tensor, Tensor]:
        """Embeds all prompts of each object; K counts points, two corners per box, and padding.

        → sparse (M, K, embed_dim), dense (M, embed_dim, s, s)
        """
        sparse = []
        if prompts.points is not None and prompts.point_labels is not None:
            sparse.append(self._embed_points(prompts.points, prompts.point_labels))
            if prompts.boxes is None:
                # SAM was trained with one padding point wherever there is no box.
                sparse.append(self.not_a_point_embed.weight.expand(num_objects, 1, -1))
        # Two corners for each box, after the points, as in SAM.
        if prompts.boxes is not None:
            sparse.append(self._embed_boxes(prompts.boxes))
        if not sparse:
            sparse.append(self.no_mask_embed.weight.new_zeros(num_objects, 0, self.embed_dim))
        return torch.cat(sparse, dim=1), self._embed_masks(prompts.masks, num_objects)

    def dense_pe(self) -> Tensor:
        """The positions of the pixels of the image embedding: (1, embed_dim, s, s)."""
        side = self.image_embedding_size
        centers = (torch.arange(side, device=self.no_mask_embed.weight.device) + 0.5) / side
        # Cell centers in [0, 1], the same scale that points have after division by S.
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def _embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        """points: (M, K, 2) x, y in the input frame · labels: (M, K), 1 object, 0 background, -1 padding"""
        background, positive = self._type_embedding(0), self._type_embedding(1)
        labels = labels[..., None]
        embedding = self.embed_coordinates(points)
        # where instead of indexing by a mask, which would wait for the GPU to count the points
        point_type = torch.where(labels == 1, positive, torch.where(labels == 0, background, 0.0))
        return torch.where(labels == -1, self.not_a_point_embed.weight, embedding + point_type)

    def _embed_boxes(self, boxes: Tensor) -> Tensor:
        """boxes: (M, 4) x0, y0, x1, y1 in the input frame → (M, 2, embed_dim)"""
        corners = torch.cat([self._type_embedding(2), self._type_embedding(3)])
        # A box is two points, its corners, each with its own type embedding.
        return self.embed_coordinates(boxes.reshape(len(boxes), 2, 2)) + corners

    def _type_embedding(self, index: int) -> Tensor:
        """(1, embed_dim): added to the position embedding of each point of this type."""
        return self.point_embeddings[index].get_parameter("weight")

    def embed_coordinates(self, coordinates: Tensor) -> Tensor:
        """The position embedding of points (..., 2) x, y in the input frame, without that of their type: (..., dim)."""
        # +0.5: SAM puts pixel centers at half integers.
        return self.pe_layer((coordinates.float() + 0.5) / self.input_side)

    def _embed_masks(self, masks: Tensor | None, num_objects: int) -> Tensor:
        """masks: (M, 1, 4s, 4s) logits → (M, embed_dim, s, s)"""
        if masks is not None:
            return self.mask_downscaling(masks)
        side = self.image_embedding_size
        # a view: nothing is copied
        return self.no_mask_embed.weight[:, :, None, None].expand(num_objects, -1, side, side)


class RandomFourierPosition(nn.Module):
    """Position as sines and cosines of random projections (Fourier Features, Tancik et al. 2020).

    The frequencies are drawn once and never trained, but they are part of the checkpoint.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_frequencies))

    def forward(self, coordinates: Tensor) -> Tensor:
        """coordinates: (..., 2) x, y in [0, 1] → (..., 2 · num_frequencies) float32"""
        # Always float32: half precision would shift positions by several pixels.
        with torch.autocast(coordinates.device.type, enabled=False):
            # [0, 1] → [-1, 1], projected on random frequencies of unit variance.
            projected = (2 * coordinates.float() - 1) @ self.positional_encoding_gaussian_matrix.float()
            angles = 2 * math.pi * projected
            return torch.cat([angles.sin(), angles.cos()], dim=-1)
