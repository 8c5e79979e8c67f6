from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from sam_ft.models.build import SPECS, ModelSpec, build_sam
from sam_ft.models.encoders.tiny_vit import TinyViT
from sam_ft.models.encoders.vit import ImageEncoderViT
from sam_ft.models.layers import from_windows, to_windows
from sam_ft.types import Features
from tests.support import reference
from tests.support.tiny import randomize


def small_tiny_vit(stem: Literal["conv", "pixel"] = "conv") -> TinyViT:
    torch.manual_seed(0)
    return TinyViT(stem, **reference.SMALL_TINY_VIT).eval()


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1, "the reference's output is too flat for a comparison"
    return (ours - theirs).abs().max().item()


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["vit_b", "vit_l", "vit_h"])
def test_a_shallow_vit_of_each_width_equals_meta_s(model_type):
    # 15 patches a side: windows of 14 need padding, and windowed and global tables differ in size.
    spec = replace(SPECS[model_type], image_size=240, depth=2, global_attn_indexes=(1,))
    theirs = reference.small_sam(spec)
    ours = build_sam(model_type, spec=spec)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 240, 240)
    with torch.no_grad():
        assert difference(ours.image_encoder(images), theirs.image_encoder(images)) <= 1e-4


@pytest.mark.parametrize("side", [16, 112, 224, 272])
def test_vit_equals_meta_s_at_any_multiple_of_16(side):
    spec = ModelSpec("vit", image_size=side, embed_dim=48, depth=3, num_heads=3, global_attn_indexes=(1,))
    theirs = reference.small_sam(spec)
    ours = build_sam("small", spec=spec)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, side, side)
    with torch.no_grad():
        assert difference(ours.image_encoder(images), theirs.image_encoder(images)) <= 1e-4


def test_vit_gradients_equal_meta_s():
    spec = ModelSpec("vit", image_size=64, embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,))
    theirs = reference.small_sam(spec).image_encoder.requires_grad_(True)
    ours = build_sam("small", spec=spec).image_encoder
    ours.load_state_dict(theirs.state_dict())
    images, weight = torch.randn(2, 3, 64, 64), torch.randn(2, 256, 4, 4)
    for encoder in (ours, theirs):
        (encoder(images) * weight).sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["vit_b", "vit_t"])
def test_whole_encoder_equals_the_official_one(model_type):
    theirs = reference.official_sam(model_type)
    ours = build_sam(model_type)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        assert difference(ours.image_encoder(images), theirs.image_encoder(images)) <= 1e-4


@pytest.mark.parametrize("side", [128, 272])
def test_tiny_vit_equals_mobile_sam_s_at_other_sizes(side):
    theirs = reference.small_tiny_vit()
    ours = small_tiny_vit()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert difference(ours(images), reference.tiny_vit_at_any_size(theirs, images)) <= 1e-4


def test_tiny_vit_gradients_equal_mobile_sam_s():
    theirs = reference.small_tiny_vit().requires_grad_(True)
    ours = small_tiny_vit()
    ours.load_state_dict(theirs.state_dict())
    for module in theirs.modules():
        if type(module).__name__ == "Attention":
            module.train()  # else the package's bias table is a constant; batch norms stay in eval mode
    images, weight = torch.randn(2, 3, 64, 64), torch.randn(2, 256, 4, 4)
    (ours(images) * weight).sum().backward()
    (reference.tiny_vit_at_any_size(theirs, images) * weight).sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.grad is None:
            assert name.startswith(("head.", "norm_head."))
            continue
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(("stem", "side", "cells"), [("conv", 48, 3), ("conv", 160, 10), ("pixel", 20, 5)])
def test_tiny_vit_takes_any_input_size(stem, side, cells):
    encoder = small_tiny_vit(stem)
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, side, side)).shape == (1, 256, cells, cells)


def test_tiny_vit_reads_its_bias_table_anew_after_weights_are_loaded():
    encoder, other = small_tiny_vit(), small_tiny_vit()
    randomize(other)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        encoder(images)
        encoder.load_state_dict(other.state_dict())
        assert torch.equal(encoder(images), other(images))


@pytest.mark.parametrize("make", [small_tiny_vit, lambda: ImageEncoderViT(64, 32, 2, 2, (1,))])
def test_encoders_run_under_autocast_and_stay_close_to_float32(make):
    torch.manual_seed(0)
    encoder = make().eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = encoder(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = encoder(images)
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize(
    "make",
    [
        # 33 patches a side: more than 1024 queries and tokens, which run in parts, and windows with padding
        lambda: (ImageEncoderViT(528, 16, 2, 2, (1,)), 528),
        lambda: (small_tiny_vit("conv"), 272),  # 68 rows, which run in bands of 64
        lambda: (small_tiny_vit("pixel"), 68),
    ],
)
def test_an_encoder_gives_the_same_features_with_and_without_gradients(make):
    encoder, side = make()
    randomize(encoder)
    images = torch.randn(2, 3, side, side)
    recorded = encoder(images)
    with torch.no_grad():
        assert difference(encoder(images), recorded.detach()) <= 1e-4


@pytest.mark.parametrize("make", [small_tiny_vit, lambda: ImageEncoderViT(64, 32, 2, 2, (1,))])
def test_activation_checkpointing_runs_blocks_twice_for_the_same_gradients(make):
    encoder, images = make(), torch.randn(2, 3, 64, 64)
    randomize(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
    calls = []
    norms[0].register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    for encoder.activation_checkpointing in (False, True):
        encoder.zero_grad()
        encoder(images).square().mean().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(calls) == 1 + 2
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    with torch.no_grad():
        encoder(images)
    assert len(calls) == 1 + 2 + 1


def small_vit() -> ImageEncoderViT:
    torch.manual_seed(0)
    return ImageEncoderViT(64, 32, 3, 2, (1,)).eval()


ENCODERS = {
    "vit": (small_vit, 5),  # patches, three blocks, neck
    "tiny_vit": (small_tiny_vit, 10),  # patches, blocks of four stages (1, 1, 2, 1) and three steps between, neck
}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    make, count = ENCODERS[request.param]
    encoder = make().requires_grad_(False)
    randomize(encoder)
    assert len(encoder.units()) == count
    return encoder


def test_each_parameter_belongs_to_one_unit(encoder):
    for name, _ in encoder.named_parameters():
        assert sum(unit.holds(name) for unit in encoder.units()) == 1, name


def test_units_of_a_tiny_vit_are_named_as_in_the_checkpoint():
    expected = [
        "patch_embed",
        *("layers.0.blocks.0", "layers.0.downsample"),
        *("layers.1.blocks.0", "layers.1.downsample"),
        *("layers.2.blocks.0", "layers.2.blocks.1", "layers.2.downsample"),
        *("layers.3.blocks.0", "neck"),
    ]
    names = [name for unit in small_tiny_vit().units() for name in unit.names]
    assert names == expected


@pytest.mark.parametrize("gradients", [False, True])
def test_prefix_and_suffix_of_every_cut_equal_the_whole_encoder(encoder, gradients):
    encoder.requires_grad_(gradients)
    images = torch.randn(2, 3, 64, 64)
    with torch.set_grad_enabled(gradients):
        whole = encoder(images)
        for cut in range(len(encoder.units()) + 1):
            assert torch.equal(encoder.suffix(encoder.prefix(images, cut), cut).embedding, whole)


def test_the_memory_order_of_cached_maps_does_not_matter(encoder):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        whole = encoder(images)
        for cut in range(len(encoder.units()) + 1):
            (cached,) = encoder.prefix(images, cut).maps
            assert torch.equal(encoder.suffix(Features((cached.contiguous(),)), cut).embedding, whole)


def test_the_cut_lies_before_the_first_unit_that_learns(encoder):
    units = encoder.units()
    assert encoder.cut == len(units)
    images = torch.randn(1, 3, 64, 64)
    for k in reversed(range(len(units))):
        parameters = {name: p for name, p in encoder.named_parameters() if units[k].holds(name)}
        next(iter(parameters.values())).requires_grad = True
        assert encoder.cut == k  # units after it learn or not
        for parameter in parameters.values():
            parameter.requires_grad = True
        with torch.no_grad():
            features = encoder.prefix(images)
        encoder.zero_grad()
        encoder.suffix(features).embedding.square().sum().backward()
        reached = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
        expected = {name for name, _ in encoder.named_parameters() if any(unit.holds(name) for unit in units[k:])}
        assert reached == expected
    assert features.maps[0] is images


def test_the_prefix_state_holds_what_the_prefix_reads_and_nothing_else(encoder):
    images, units = torch.randn(1, 3, 64, 64), encoder.units()
    everything = encoder.state_dict()
    with torch.no_grad():
        for cut in range(len(units) + 1):
            encoder.requires_grad_(False)
            if cut < len(units):
                encoder.get_parameter(
                    next(n for n, _ in encoder.named_parameters() if units[cut].holds(n))
                ).requires_grad_()
            before, (features,) = encoder.prefix_state(), encoder.prefix(images).maps
            assert all(everything[name].data_ptr() == tensor.data_ptr() for name, tensor in before.items())
            others = {name: tensor.clone() for name, tensor in everything.items() if name not in before}
            for name in others:
                everything[name].zero_()
            assert torch.equal(encoder.prefix(images).maps[0], features)
            encoder.load_state_dict(others, strict=False)


def test_windows_are_cut_row_by_row_and_put_back():
    grid = torch.arange(6.0).reshape(1, 2, 3, 1)  # 0 1 2 / 3 4 5
    windows = to_windows(grid, 2)
    assert windows[..., 0].tolist() == [[[0, 1], [3, 4]], [[2, 0], [5, 0]]]
    assert torch.equal(from_windows(windows, 2, 3), grid)


def test_windows_are_padded_with_the_given_values():
    windows = to_windows(torch.zeros(1, 1, 3, 2), 2, padding=torch.tensor([1.0, 2.0]))
    assert windows[..., 0].tolist() == [[[0, 0], [1, 1]], [[0, 1], [1, 1]]]
    assert windows[..., 1].tolist() == [[[0, 0], [2, 2]], [[0, 2], [2, 2]]]
