"""Small layers that several parts of the model share, with the official checkpoints' parameter names."""

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel: (B, C, H, W) → (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        # The fused kernel wants channels last; both permutes are views.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers with an activation between them: (..., dim) → (..., dim)."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module] = nn.GELU) -> None:
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
    """Scaled dot-product attention by the fastest kernel there is, also for a batch of nothing.

    query: (B, heads, Q, C) · key, value: (B, heads, P, C) · bias: (heads, Q, P), added to the logits
    scale: of the logits, 1 / √C by default → (B, heads, Q, C)
    """
    if len(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scale)
    # For an empty batch some fused kernels fail (pytorch issue 133780), and on a CPU the bias gets no gradient,
    # not even zeros, for which DDP would wait.
    logits = query @ key.transpose(2, 3)
    return (logits if bias is None else logits + bias).softmax(dim=-1) @ value


def make_neck(in_channels: int, out_channels: int = 256) -> nn.Sequential:
    """The layers that bring an encoder's last map to the decoder's width: (B, in, s, s) → (B, out, s, s)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


def to_windows(x: Tensor, side: int) -> Tensor:
    """Cuts a map into square windows, padded with zeros at the bottom and right to a whole number of them.

    x: (B, H, W, C) → (B · windows, side, side, C), the windows of an image row by row
    """
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, side, side, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Undoes `to_windows`: (B · windows, side, side, C) → (B, height, width, C), the padding cut off."""
    side, channels = windows.shape[2:]
    rows, columns = -(-height // side), -(-width // side)
    batch = len(windows) // (rows * columns)
    x = windows.reshape(batch, rows, columns, side, side, channels).transpose(2, 3)
    return x.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
