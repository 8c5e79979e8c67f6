"""Attention with decomposed relative positions, as in SAM's ViT: as one inner product, or in parts on a CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sam_ft.models.layers import attention, from_windows, to_windows
from sam_ft.utils.cpu_kernels import on_cpu

QUERIES = 1024  # of a part: with the keys of a whole map at S = 1024 its logits take 16 MB an image


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
        # Equal up to rounding. A compiled graph would unroll the loop over the parts.
        in_parts = on_cpu(x) and not torch.compiler.is_compiling()
        attend = _AttendInParts.apply if in_parts else _attend_at_once
        out = attend(q, k, v, rows, columns).transpose(1, 2).reshape(-1, side, side, x.shape[3])
        return self.proj(from_windows(out, x.shape[1], x.shape[2]).contiguous())


class _AttendInParts(torch.autograd.Function):
    """Attention with the positions' term of the logits as a bias, for one head and some queries at a time.

    The whole bias has 4096 × 4096 entries per head and image at S = 1024; a part of it stays in the cache. The backward
    pass computes each part again. On a CPU both take half the time of `_attend_at_once`, which has up to three
    times the channels.

    q, k, v: (B, heads, side², C) · rows, columns: (B, heads, side², side), entry j of query i is qᵢ·R[i - j] → like q
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for head, some in _parts(q):
            one = slice(head, head + 1)
            bias = _bias(rows[:, one, some], columns[:, one, some])
            out[:, one, some] = attention(q[:, one, some], k[:, one], v[:, one], bias)
        ctx.save_for_backward(q, k, v, rows, columns, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", enabled=False):  # in float32, also for a backward pass inside autocast
            return _gradients(*(tensor.float() for tensor in (*ctx.saved_tensors, grad)))


def _gradients(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, out: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    """The gradient of softmax attention (FlashAttention, Dao et al. 2022, appendix B), with that of its bias.

    out: the output · grad: its gradient → the gradients of q, k, v, rows and columns
    """
    scale = q.shape[3] ** -0.5
    grads = tuple(torch.zeros_like(tensor) for tensor in (q, k, v, rows, columns))
    grad_q, grad_k, grad_v, grad_rows, grad_columns = grads
    # Σⱼ Pᵢⱼ · dPᵢⱼ of each query, for the gradient of softmax.
    mean = (grad * out).sum(dim=3, keepdim=True)
    for head, some in _parts(q):
        keys, grad_out = k[:, head], grad[:, head, some]
        queries = q[:, head, some] * scale
        shares = torch.baddbmm(_bias(rows[:, head, some], columns[:, head, some]), queries, keys.mT).softmax(dim=2)
        grad_v[:, head].baddbmm_(shares.mT, grad_out)
        # dS = P · (dP - mean)
        grad_logits = torch.baddbmm(-mean[:, head, some], grad_out, v[:, head].mT).mul_(shares)
        grad_q[:, head, some] = torch.bmm(grad_logits, keys).mul_(scale)
        grad_k[:, head].baddbmm_(grad_logits.mT, queries)
        grad_map = grad_logits.unflatten(2, (rows.shape[3], columns.shape[3]))
        grad_rows[:, head, some] = grad_map.sum(dim=3)
        grad_columns[:, head, some] = grad_map.sum(dim=2)
    return grads


def _parts(q: Tensor) -> list[tuple[int, slice]]:
    """Each head with slices of at most `QUERIES` of its queries."""
    return [(head, slice(i, i + QUERIES)) for head in range(q.shape[1]) for i in range(0, q.shape[2], QUERIES)]


def _bias(rows: Tensor, columns: Tensor) -> Tensor:
    """(..., Q, side) twice → (..., Q, side²), over the keys row by row."""
    return (rows[..., :, None] + columns[..., None, :]).flatten(-2)


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
