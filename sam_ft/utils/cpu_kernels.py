"""The arithmetic that is written differently for a CPU, each fast form beside its plain form, and malloc's setting.

The function without a suffix picks by device: the fast form on a CPU, plain torch on a GPU. Both compute the same
values up to rounding. Some fast forms need that no gradient is recorded, see `predicts_on_cpu`.
"""

import ctypes
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h

# 64 rows of a map that is 256 wide with 256 channels take 16 MB. Without bands TinyViT takes a third longer, or the
# same after `keep_freed_memory`, and twice the memory.
ROWS = 64
# The hidden layer of a ViT's MLP stays in the cache for this many tokens.
TOKENS = 1024


def on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether no gradient is recorded on a CPU: large tensors are then faster in parts, and may be overwritten."""
    return on_cpu(x) and not torch.is_grad_enabled()


def keep_freed_memory() -> None:
    """Tells malloc to keep large blocks for the next tensor of that size instead of giving them back to the kernel.

    By default every tensor above 32 MB is mapped anew and its pages zeroed again, at each step. Does nothing but on
    Linux with glibc. The process holds on to its peak memory, which it would need again a moment later anyway.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # No block is mapped by itself; the heap is trimmed only above 2 GB free at its end, and grows by 64 MB.
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def areas(masks: Tensor) -> Tensor:
    """Counts the true pixels of each mask: (N, H, W) bool → (N,) int64 on the CPU."""
    return areas_fast(masks) if on_cpu(masks) else areas_plain(masks)


def areas_plain(masks: Tensor) -> Tensor:
    return masks.flatten(1).sum(1).cpu()


def areas_fast(masks: Tensor) -> Tensor:
    """Counts with NumPy, for torch's sum first makes eight bytes of every pixel."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()], dtype=torch.int64)


def upsample(logits: Tensor, side: int) -> Tensor:
    """Bilinear upsampling of one candidate's logits as in SamPredictor: (M, h, w) → (M, side, side) float32."""
    # autocast would leave bfloat16 here, whose 8 bits of mantissa are too few to sum a million pixels
    return (upsample_fast if on_cpu(logits) else upsample_plain)(logits.float(), side)


def upsample_plain(logits: Tensor, side: int) -> Tensor:
    return F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]


def upsample_fast(logits: Tensor, side: int) -> Tensor:
    """Stretches x, then y, with all other axes as channels, last in memory, so that kernels vectorize over them.

    The gradient of `upsample_plain` takes a CPU five times as long.
    """
    for _ in range(2):
        # Images of h channels, last in memory, w high and one pixel wide: their height is stretched.
        channels_last = logits.transpose(1, 2).contiguous().unsqueeze(2).permute(0, 3, 1, 2)
        stretched = F.interpolate(channels_last, (side, 1), mode="bilinear", align_corners=False)
        logits = stretched.permute(0, 2, 3, 1).squeeze(2)  # (M, side, h): transposed for the other axis
    return logits


def dilate(masks: Tensor, reach: int) -> Tensor:
    """True where a true pixel lies at most `reach` rows and columns away, (M, S, S) bool."""
    return (dilate_fast if on_cpu(masks) else dilate_plain)(masks, reach)


def dilate_plain(masks: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(masks[:, None].float(), 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0


def dilate_fast(masks: Tensor, reach: int) -> Tensor:
    """Combines shifted copies by "or", which on a CPU takes a hundredth of the time of max pooling."""
    side = masks.shape[-1]
    reach = min(reach, side)
    for axis in (1, 2):
        # The reach doubles: after steps of 1, 2 and 4 a pixel has spread by 7.
        done = 0
        while done < reach:
            step = min(done + 1, reach - done)  # a longer one would leave gaps beside pixels at the border
            wider = masks.clone()
            wider.narrow(axis, step, side - step).logical_or_(masks.narrow(axis, 0, side - step))
            wider.narrow(axis, 0, side - step).logical_or_(masks.narrow(axis, step, side - step))
            masks, done = wider, done + step
    return masks


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))) in float32."""
    return log_sigmoid_fast(x) if on_cpu(x) else F.logsigmoid(x)


def log_sigmoid_fast(x: Tensor) -> Tensor:
    """Avoids log1p, of which torch has no vectorized kernel on a CPU: it takes four times as long as all of this.

    Exact to 6e-8 where that is more than the precision of the value itself.
    """
    return _LogSigmoid.apply(x)


class _LogSigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # min(x, 0) - log(1 + exp(-|x|)), in which exp never overflows.
        return x.abs().neg_().exp_().add_(1).log_().neg_().add_(x.clamp(max=0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.neg().sigmoid_().mul_(grad)  # d/dx log sigmoid(x) = sigmoid(-x)


def gelu(x: Tensor) -> Tensor:
    """The exact GELU (Hendrycks and Gimpel 2016); x must be a temporary of the caller, for it may be overwritten."""
    return gelu_fast(x) if predicts_on_cpu(x) else F.gelu(x)


def gelu_fast(x: Tensor) -> Tensor:
    """Overwrites x, which makes TinyViT a tenth faster; no gradient can be recorded."""
    return torch.ops.aten.gelu_(x)


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """A convolution without bias, then its batch norm: (B, in, H, W) → (B, out, H', W')."""
    return (conv_norm_fast if on_cpu(x) and not norm.training else conv_norm_plain)(x, conv, norm)


def conv_norm_plain(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    return norm(conv(x))


def conv_norm_fast(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Folds the batch norm, in eval mode, into the convolution's weights.

    It folds on every call: kept weights would be stale after training, and so gradients flow as without folding.
    """
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight / (variance + norm.eps).sqrt()
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - mean * scale
    if conv.kernel_size == (1, 1):  # channels are last in memory; a tenth faster
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)


def in_bands(function: Callable[[Tensor], Tensor], x: Tensor, reach: int = 0, stride: int = 1) -> Tensor:
    """function(x), in bands of rows where `predicts_on_cpu`.

    function: (B, C, H, W) → (B, C', H / stride, W / stride), which looks at most `reach` rows up and down
    reach: a multiple of `stride`
    """
    return in_bands_fast(function, x, reach, stride) if predicts_on_cpu(x) else function(x)


def in_bands_fast(function: Callable[[Tensor], Tensor], x: Tensor, reach: int = 0, stride: int = 1) -> Tensor:
    """Runs one image and `ROWS` rows at a time: each band is computed with `reach` more rows, then cut."""
    # Image by image: the memory of one band stays that of a single image.
    if len(x) > 1:
        return torch.cat([in_bands_fast(function, image, reach, stride) for image in x.split(1)])
    bands = []
    for y in range(0, x.shape[2], ROWS):
        # At the border of the map there are no more rows; the function pads there itself.
        top = max(y - reach, 0)
        band = function(x[:, :, top : y + ROWS + reach])
        bands.append(band[:, :, (y - top) // stride : (y - top + ROWS) // stride])
    return torch.cat(bands, dim=2)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), a thousand tokens at a time where `predicts_on_cpu`; it maps each token (..., dim) by itself."""
    return in_chunks_fast(function, x) if predicts_on_cpu(x) else function(x)


def in_chunks_fast(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """5 % faster for a ViT's MLP, whose hidden layer then stays in the cache."""
    return torch.cat([function(tokens) for tokens in x.flatten(0, -2).split(TOKENS)]).view_as(x)
