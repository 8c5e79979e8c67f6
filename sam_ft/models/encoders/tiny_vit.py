"""TinyViT (Wu et al. 2022) as MobileSAM and LiteMedSAM use it: the last downsampling keeps the resolution.

Names are those of `mobile_sam.pt`: a convolution `c` with its batch norm `bn`, stages `layers.0` to `.3`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sam_ft.models.encoders.encoder import ImageEncoder, Unit
from sam_ft.models.layers import Gelu, attention, from_windows, make_neck, to_windows
from sam_ft.utils.cpu_kernels import conv_norm, gelu, in_bands


class TinyViT(ImageEncoder):
    """A stage of convolutions and three of windowed attention; it takes any input size.

    stem: "conv" has a stride of 4 pixels (MobileSAM, s = S / 16), "pixel" of 1 (LiteMedSAM, s = S / 4)
    classifier: keep the unused head of the ImageNet model, as MobileSAM's weights do
    """

    def __init__(
        self,
        stem: Literal["conv", "pixel"] = "conv",
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
        out_channels: int = 256,
        classifier: bool = True,
    ) -> None:
        super().__init__()
        self.patch_embed = Stem(embed_dims[0], stem)
        self.layers = nn.ModuleList()
        self._unit_names = ["patch_embed"]
        for i, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True)):
            blocks: list[nn.Module] = [
                MBConv(dim) if i == 0 else TinyViTBlock(dim, num_heads[i], window_sizes[i]) for _ in range(depth)
            ]
            downsample = None
            if i + 1 < len(embed_dims):
                stride = 2 if i < 2 else 1  # the decoder needs the finer map
                downsample = PatchMerging(dim, embed_dims[i + 1], stride)
            self.layers.append(Stage(blocks, downsample))
            self._unit_names += [f"layers.{i}.blocks.{j}" for j in range(depth)]
            self._unit_names += [f"layers.{i}.downsample"] if downsample else []
        if classifier:  # never run, but part of `mobile_sam.pt`
            self.norm_head = _as_buffers(nn.LayerNorm(embed_dims[-1]))
            self.head = _as_buffers(nn.Linear(embed_dims[-1], 1000))
        self.neck = make_neck(embed_dims[-1], out_channels)
        self._unit_names.append("neck")

    def units(self) -> list[Unit]:
        return [Unit((name,), self.get_submodule(name)) for name in self._unit_names]


def _as_buffers(module: nn.Module) -> nn.Module:
    """Turns the parameters of a module into buffers: saved under the same names, but never trained."""
    for name, parameter in list(module.named_parameters()):
        delattr(module, name)
        module.register_buffer(name, parameter.detach())
    return module


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(x, self.c, self.bn)


class Stem(nn.Module):
    """The patch embedding: (B, 3, S, S) → (B, dim, S / 4, S / 4) if "conv", (B, dim, S, S) if "pixel"."""

    def __init__(self, dim: int, stem: Literal["conv", "pixel"]) -> None:
        super().__init__()
        kernel, stride = (3, 2) if stem == "conv" else (1, 1)
        self.stride = stride**2  # two convolutions
        self.seq = nn.Sequential(ConvNorm(3, dim // 2, kernel, stride), Gelu(), ConvNorm(dim // 2, dim, kernel, stride))

    def forward(self, images: Tensor) -> Tensor:
        # Convolutions are faster with channels last, and the permutations around attention are views.
        images = images.contiguous(memory_format=torch.channels_last)
        return in_bands(self.seq, images, reach=self.stride, stride=self.stride)


class Stage(nn.Module):
    """Blocks, then the downsampling to the next stage, if there is one; `TinyViT.units` lists them."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class MBConv(nn.Module):
    """Expansion to four times the channels, a 3 × 3 depthwise convolution, projection, and a residual.

    MobileNetV2 (Sandler et al. 2018): (B, dim, h, w) → the same
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, kernel=3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return in_bands(self._convolve, x, reach=1)

    def _convolve(self, x: Tensor) -> Tensor:
        return gelu(x + self.conv3(gelu(self.conv2(gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """Downsampling between stages: (B, in_dim, h, w) → (B, out_dim, h / stride, w / stride)."""

    def __init__(self, in_dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = ConvNorm(in_dim, out_dim)
        self.conv2 = ConvNorm(out_dim, out_dim, kernel=3, stride=stride, groups=out_dim)
        self.conv3 = ConvNorm(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return in_bands(self._convolve, x, reach=self.stride, stride=self.stride)

    def _convolve(self, x: Tensor) -> Tensor:
        return self.conv3(gelu(self.conv2(gelu(self.conv1(x)))))


class TinyViTBlock(nn.Module):
    """Attention in windows, a 3 × 3 depthwise convolution across their borders, an MLP: (B, dim, h, w) → the same."""

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, num_heads, window_size)
        self.local_conv = ConvNorm(dim, dim, kernel=3, groups=dim)
        self.mlp = NormMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        # It mixes neighboring windows, and has no residual.
        x = self.local_conv(x)
        return in_bands(self._add_mlp, x)

    def _add_mlp(self, x: Tensor) -> Tensor:
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormMlp(nn.Module):
    """A layer norm and two linear layers: (..., dim) → (..., dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(self.norm(x))))


class WindowAttention(nn.Module):
    """Attention within windows of a map, with a learned bias per head and distance (LeViT, Graham et al. 2021)."""

    bias_index: Tensor

    def __init__(self, dim: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        self.register_buffer("bias_index", _distance_index(window_size), persistent=False)

    def qkv_rows(self) -> Tensor:
        """(3, dim): the rows of the weight of `qkv` that give queries, keys and values."""
        rows = torch.arange(self.qkv.out_features).reshape(self.num_heads, 3, -1)
        return rows.transpose(0, 1).reshape(3, -1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, dim) → the same"""
        side, dim = self.window_size, x.shape[3]
        # MobileSAM pads windows with zeros before the layer norm, which maps them to its bias; SAM's ViT pads after it.
        # Padding after qkv saves a sixth of qkv and proj at 64 cells a side: all padding has the same q, k and v.
        windows = to_windows(self.qkv(self.norm(x)), side, padding=self.qkv(self.norm.bias))
        # In LeViT's layout each head holds its q, k and v side by side; a ViT's holds all q, then all k, then all v.
        qkv = windows.reshape(len(windows), side * side, self.num_heads, 3, dim // self.num_heads)
        q, k, v = qkv.permute(3, 0, 2, 1, 4).unbind(0)  # each (B · windows, heads, side², dim / heads)
        # Looked up on every call: a kept copy would be stale after training or loading weights.
        bias = self.attention_biases[None, :, self.bias_index].to(q.dtype)
        out = attention(q, k, v, bias).transpose(1, 2).reshape(-1, side, side, dim)
        return self.proj(from_windows(out, x.shape[1], x.shape[2]))


def _distance_index(side: int) -> Tensor:
    """(side², side²) int64: index into the bias table for each pair of cells, |Δrow| · side + |Δcolumn|."""
    place = torch.arange(side)
    distance = (place[:, None] - place[None, :]).abs()
    # (row, column) of a query × (row, column) of a key
    index = distance[:, None, :, None] * side + distance[None, :, None, :]
    return index.reshape(side * side, side * side)
