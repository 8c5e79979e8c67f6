"""Small layers that several parts of the model share, with the official checkpoints' parameter names."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.utils.cpu_kernels import gelu, on_cpu


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over the channels of each pixel: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # The fused kernel wants channels last; both permutes are views.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Gelu(nn.Module):
    """`gelu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class Mlp(nn.Module):
    """Two linear layers with an activation between them: (..., dim) → (..., dim)."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module] = Gelu) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.act = activation()
        self.lin2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class DeepMlp(nn.Module):
    """`depth` linear layers with ReLU between, the mask decoder's heads: (..., in_dim) → (..., out_dim)."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(widths[i], widths[i + 1]) for i in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Scaled dot-product attention by torch's fused kernels, also for an empty batch.

    query: (B, heads, Q, C) · key, value: (B, heads, P, C)
    bias: (B or 1, heads, Q, P), added to the logits; a CPU has no fused kernel for a bias of three dimensions
    scale: of the logits, 1 / √C by default → (B, heads, Q, C)
    """
    # Torch picks the kernel: flash, memory-efficient or plain, by device, number format and bias.
    if len(query) and not (on_cpu(query) and bias is not None and bias.requires_grad):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    # For an empty batch some fused kernels fail (pytorch issue 133780), and on a CPU the bias gets no gradient,
    # not even zeros, and DDP would wait for it. A bias that learns has no fused kernel on a CPU, and torch's plain one
    # also looks for queries whose keys are all masked.
    scale = query.shape[3] ** -0.5 if scale is None else scale
    logits = (scale * query) @ key.transpose(2, 3)
    return (logits if bias is None else logits.add_(bias)).softmax(dim=-1) @ value


def inner_products(few: Tensor, many: Tensor) -> Tensor:
    """few: (M, A, C) · many: (M, P, C), A much smaller than P → (M, A, P)"""
    return _InnerProducts.apply(few, many)


def mixtures(weights: Tensor, few: Tensor) -> Tensor:
    """weights: (M, A, P) · few: (M, A, C), A much smaller than P → (M, P, C)"""
    return _Mixtures.apply(weights, few)


# Two matrix products that are each other's gradient. Torch's own gradients of the large factors are transposed in
# memory, which costs a copy or slows down every operation on them. `to`: autocast does not cover a backward pass.
class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, few: Tensor, many: Tensor) -> Tensor:
        ctx.save_for_backward(few, many)
        return few @ many.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        few, many = (tensor.to(grad.dtype) for tensor in ctx.saved_tensors)
        need_few, need_many = ctx.needs_input_grad
        # grad: (M, A, P); the gradient of `many` is a mixture of `few` with these weights.
        return grad @ many if need_few else None, mixtures(grad, few) if need_many else None


class _Mixtures(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, few: Tensor) -> Tensor:
        ctx.save_for_backward(weights, few)
        return weights.transpose(1, 2) @ few

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weights, few = (tensor.to(grad.dtype) for tensor in ctx.saved_tensors)
        need_weights, need_few = ctx.needs_input_grad
        return inner_products(few, grad) if need_weights else None, weights @ grad if need_few else None


def make_neck(in_channels: int, out_channels: int = 256) -> nn.Sequential:
    """The neck: projects an encoder's last map to the decoder's width, (B, in, s, s) → (B, out, s, s)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


def to_windows(x: Tensor, side: int, padding: Tensor | None = None) -> Tensor:
    """Cuts a map into square windows, padded at the bottom and right to a whole number of them.

    x: (B, H, W, C) · padding: (C,), zeros by default → (B · windows, side, side, C), the windows of an image row by row
    """
    batch, height, width, channels = x.shape
    rows, columns = -(-height // side), -(-width // side)  # rounded up
    if (rows * side, columns * side) != (height, width):
        fill = x.new_zeros(channels) if padding is None else padding.to(x.dtype)
        padded = fill.expand(batch, rows * side, columns * side, channels).clone()
        padded[:, :height, :width] = x
        x = padded
    x = x.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, side, side, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Undoes `to_windows`: (B · windows, side, side, C) → (B, height, width, C), the padding cut off."""
    side, channels = windows.shape[2:]
    rows, columns = -(-height // side), -(-width // side)
    batch = len(windows) // (rows * columns)
    x = windows.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
