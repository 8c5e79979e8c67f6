"""Each kernel's fast form against its plain form, values and gradients, both on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sam_ft.models.encoders.tiny_vit import ConvNorm
from sam_ft.utils import cpu_kernels
from tests.support.tiny import randomize


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 1, 1), (5, 17, 31)])
def test_areas_count_true_pixels(shape):
    masks = seeded(*shape) > 0
    fast, plain = cpu_kernels.areas_fast(masks), cpu_kernels.areas_plain(masks)
    assert fast.dtype == plain.dtype == torch.int64
    assert fast.tolist() == plain.tolist() == [int(mask.sum()) for mask in masks]


@pytest.mark.parametrize("side", [8, 20, 32])
def test_upsampling_in_two_passes_equals_one_call_and_so_do_its_gradients(side):
    coarse = seeded(3, 8, 8).requires_grad_()
    cost = seeded(3, side, side, seed=1)
    fast, plain = cpu_kernels.upsample_fast(coarse, side), cpu_kernels.upsample_plain(coarse, side)
    assert fast.is_contiguous()
    torch.testing.assert_close(fast, plain)
    torch.testing.assert_close(*(torch.autograd.grad((x * cost).sum(), coarse)[0] for x in (fast, plain)))


def test_bfloat16_logits_are_upsampled_in_float32():
    # 1 and 1.0078125 are neighbors in bfloat16: a mean of the two would be rounded to one of them
    between = torch.tensor([[[1.0, 1.0078125]] * 2]).bfloat16()
    assert cpu_kernels.upsample(between, 4)[0, 0].tolist() == [1.0, 1.001953125, 1.005859375, 1.0078125]


@pytest.mark.parametrize("reach", [*range(1, 12), 22, 30])
def test_dilation_by_shifts_reaches_as_far_as_max_pooling(reach):
    masks = torch.zeros(24, 23, 23, dtype=torch.bool)
    masks[range(23), range(23), range(22, -1, -1)] = True  # a single pixel each: at the border, near it, and inside
    before = masks.clone()
    assert torch.equal(cpu_kernels.dilate_fast(masks, reach), cpu_kernels.dilate_plain(masks, reach))
    assert torch.equal(masks, before)


def test_log_sigmoid_and_its_gradient_are_those_of_float64():
    x = torch.linspace(-120, 120, 2401)
    fast, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    cpu_kernels.log_sigmoid_fast(fast).sum().backward()
    F.logsigmoid(exact).sum().backward()
    torch.testing.assert_close(cpu_kernels.log_sigmoid_fast(x), F.logsigmoid(x), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(fast.grad, exact.grad.float(), rtol=1e-6, atol=1e-7)


def test_gelu_overwrites_its_input_only_where_no_gradient_is_recorded():
    x = seeded(1000)
    expected = F.gelu(x)
    assert torch.equal(cpu_kernels.gelu(x), expected)
    assert not torch.equal(x, expected)
    with torch.no_grad():
        assert cpu_kernels.gelu(x.clone()).equal(expected)
        assert torch.equal(cpu_kernels.gelu_fast(x), expected)
    assert torch.equal(x, expected)


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 1, 4), (3, 2, 1)])
def test_a_folded_batch_norm_gives_the_same_values_and_gradients(kernel, stride, groups):
    torch.manual_seed(0)
    layer = ConvNorm(4, 8, kernel, stride, groups).eval()
    randomize(layer)
    results = []
    for form in (cpu_kernels.conv_norm_fast, cpu_kernels.conv_norm_plain):
        layer.zero_grad()
        x = seeded(2, 4, 5, 5).requires_grad_()
        out = form(x, layer.c, layer.bn)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_a_batch_norm_in_train_mode_is_not_folded():
    layer = ConvNorm(2, 2).train()
    out = cpu_kernels.conv_norm(3 * seeded(8, 2, 16, 16) + 1, layer.c, layer.bn)
    assert out.mean().abs() < 1e-5
    assert layer.bn.num_batches_tracked == 1


@pytest.mark.parametrize("rows", [1, 64, 66, 130])
@pytest.mark.parametrize("stride", [1, 2])
def test_bands_of_rows_put_together_equal_the_whole_map(rows, stride):
    conv = nn.Conv2d(2, 3, 3, stride, padding=1)
    x = seeded(2, 2, stride * rows, 4)
    with torch.no_grad():
        bands = cpu_kernels.in_bands_fast(conv, x, reach=stride, stride=stride)
        torch.testing.assert_close(bands, conv(x))


@pytest.mark.parametrize("tokens", [1, 1024, 2100])
def test_chunks_of_tokens_put_together_equal_the_whole_map(tokens):
    mlp = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    x = seeded(1, 1, tokens, 4)
    with torch.no_grad():
        torch.testing.assert_close(cpu_kernels.in_chunks_fast(mlp, x), mlp(x))


def test_maps_are_taken_in_parts_only_where_no_gradient_is_recorded():
    sizes = []

    def remember(x):
        sizes.append(x.shape[-2])
        return x

    x = torch.zeros(1, 1, 2000, 1)
    for kernel in (cpu_kernels.in_bands, cpu_kernels.in_chunks):
        assert kernel(remember, x).shape == x.shape
        assert sizes == [2000]
        with torch.no_grad():
            assert kernel(remember, x).shape == x.shape
        assert len(sizes) > 2
        sizes.clear()


def test_freed_memory_can_be_kept_on_every_platform(monkeypatch):
    monkeypatch.setattr(cpu_kernels.platform, "system", lambda: "Windows")
    cpu_kernels.keep_freed_memory()
