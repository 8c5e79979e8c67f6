"""SAM's image encoder: a ViT with windowed attention and a few global blocks (ViTDet, Li et al. 2022)."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from sam_ft.models.encoders.encoder import ImageEncoder, Unit
from sam_ft.models.encoders.rel_pos_attention import RelPosAttention
from sam_ft.models.layers import Mlp, make_neck
from sam_ft.utils.cpu_kernels import in_chunks


class ImageEncoderViT(ImageEncoder):
    """Patches of 16 × 16 pixels, transformer blocks, and a neck to `out_channels`.

    image_size: S, a multiple of `patch_size`; position tables are made for it
    global_attn_indexes: blocks that attend to the whole map; the others to windows of `window_size` patches
    """

    def __init__(
        self,
        image_size: int = 1024,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attn_indexes: Collection[int] = (2, 5, 8, 11),
        window_size: int = 14,
        patch_size: int = 16,
        out_channels: int = 256,
    ) -> None:
        super().__init__()
        side = image_size // patch_size
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        # A vector for each patch, so weights fit one input side; `weights` interpolates for others.
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, embed_dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, side, window_size=None if i in global_attn_indexes else window_size)
            for i in range(depth)
        )
        self.neck = make_neck(embed_dim, out_channels)

    def units(self) -> list[Unit]:
        blocks = [Unit((f"blocks.{i}",), block) for i, block in enumerate(self.blocks)]
        # The cut can lie between any two blocks.
        return [Unit(("patch_embed", "pos_embed"), self._embed), *blocks, Unit(("neck",), self.neck)]

    def _embed(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, embed_dim, s, s)"""
        return self.patch_embed(images) + self.pos_embed.permute(0, 3, 1, 2)


class PatchEmbed(nn.Module):
    """Cuts the image into patches and projects each: (B, 3, S, S) → (B, embed_dim, s, s)."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        # Channels last halves the time on a CPU, and makes the permutations of all blocks views.
        return self.proj(images.contiguous(memory_format=torch.channels_last))


class Block(nn.Module):
    """Attention and an MLP, each after a layer norm and around a residual: (B, dim, s, s) → the same.

    window_size: None for attention over the whole map
    """

    def __init__(self, dim: int, num_heads: int, side: int, window_size: int | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RelPosAttention(dim, num_heads, window_size or side)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden_dim=4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        # (B, s, s, dim), a view: channels are last in memory.
        x = x.permute(0, 2, 3, 1)
        x = x + self.attn(self.norm1(x))
        return in_chunks(self._add_mlp, x).permute(0, 3, 1, 2)

    def _add_mlp(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))
