"""SAM's image encoder: a ViT with windowed attention and a few global blocks (ViTDet, Li et al. 2022)."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models.encoders.encoder import ImageEncoder, Unit
from sam_ft.models.layers import Mlp, attention, from_windows, make_neck, to_windows
from sam_ft.utils.cpu_kernels import in_chunks, predicts_on_cpu


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


class RelPosAttention(nn.Module):
    """Multi-head attention with decomposed relative positions (MViTv2, Li et al. 2022, equation 4).

    The logit of query i and key j is  scale · qᵢ·kⱼ + qᵢ·R_row[yᵢ - yⱼ] + qᵢ·R_col[xᵢ - xⱼ].

    side: of the windows that a map is cut into, or of the whole map
    """

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.side = side
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, self.head_dim))

    def qkv_rows(self) -> Tensor:
        """(3, dim): the rows of the weight of `qkv` that give queries, keys and values."""
        return torch.arange(self.qkv.out_features).reshape(3, -1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, dim) → the same"""
        side = self.side
        # SAM pads windows with zeros and attends to them: their queries, keys and values are the bias of qkv. Padding
        # after qkv saves a sixth of qkv and proj at 64 patches a side.
        windows = to_windows(self.qkv(x), side, padding=self.qkv.bias)
        windows = windows.reshape(len(windows), side * side, 3, self.num_heads, self.head_dim)
        q, k, v = windows.permute(2, 0, 3, 1, 4).unbind(0)  # each (B · windows, heads, side², head_dim)
        # The terms of rows and columns, (B · windows, heads, side², side) each; as in SAM, their queries are not
        # scaled.
        q_map = q.unflatten(2, (side, side))
        rows = torch.einsum("bnyxc,ykc->bnyxk", q_map, _relative(self.rel_pos_h)).flatten(2, 3)
        columns = torch.einsum("bnyxc,xkc->bnyxk", q_map, _relative(self.rel_pos_w)).flatten(2, 3)
        # In parts without a gradient on a CPU, at once elsewhere; equal up to rounding.
        attend = _attend_in_parts if predicts_on_cpu(x) else _attend_at_once
        out = attend(q, k, v, rows, columns).transpose(1, 2).reshape(-1, side, side, x.shape[3])
        return self.proj(from_windows(out, x.shape[1], x.shape[2]).contiguous())


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention with the positions' term of the logits as a bias, for one head and a thousand queries at a time.

    The whole bias has 4096 × 4096 entries per head and image at S = 1024; a part of it stays in the cache. On a CPU
    this takes half the time of `_attend_at_once`, which has three times the channels.

    q, k, v: (B, heads, side², C) · rows, columns: (B, heads, side², side), entry j of query i is qᵢ·R[i - j] → like q
    """
    out = torch.empty_like(q)
    for head in range(q.shape[1]):
        one = slice(head, head + 1)
        for i in range(0, q.shape[2], 1024):
            some = slice(i, i + 1024)
            # (B, 1, 1024, side, side), then the last two as side² keys, row by row.
            bias = (rows[:, one, some, :, None] + columns[:, one, some, None, :]).flatten(3)
            out[:, one, some] = attention(q[:, one, some], k[:, one], v[:, one], bias)
    return out


def _attend_at_once(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same with logits that are one inner product, [scale · qᵢ, rowsᵢ, columnsᵢ]·[kⱼ, one-hot(yⱼ), one-hot(xⱼ)].

    Without a bias over all pairs, fused kernels apply, which keep nothing of that size for the gradient either.
    """
    batch, heads, _, head_dim = q.shape
    side = rows.shape[3]
    # Fused kernels need a multiple of 8 channels, and as many in v as in q and k. A narrower v runs unfused, which
    # takes a CPU twice as long.
    spare = -(head_dim + 2 * side) % 8
    q = torch.cat([q * head_dim**-0.5, rows, columns, q.new_zeros(1).expand(*q.shape[:3], spare)], dim=3)
    places = F.pad(_one_hot_places(side, k), (0, spare))
    k = torch.cat([k, places.expand(batch, heads, -1, -1)], dim=3)
    v = F.pad(v, (0, 2 * side + spare))
    return attention(q, k, v, scale=1.0)[..., :head_dim]  # q holds the scale; cuts the padding of v


def _relative(table: Tensor) -> Tensor:
    """(2 · side - 1, C), entry d + side - 1 for the distance d → (side, side, C), entry [i, j] for d = i - j."""
    side = (len(table) + 1) // 2
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place[None, :] + side - 1]


def _one_hot_places(side: int, like: Tensor) -> Tensor:
    """(side², 2 · side): for each cell, row by row, the one-hot code of its row and of its column."""
    eye = torch.eye(side, dtype=like.dtype, device=like.device)
    rows = eye[:, None, :].expand(side, side, side)
    columns = eye[None, :, :].expand(side, side, side)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
