from itertools import pairwise

import pytest
import torch
from torch import nn

from sam_ft.adapt import Freeze, Lora, freeze_unreached
from sam_ft.models import build_model
from sam_ft.prompts import Box
from sam_ft.task import PromptedSegmentation
from sam_ft.training.optim import Constant, WarmupCosine, adamw, set_learning_rate
from sam_ft.training.step import split_into_passes
from tests.support.steps import batch_of
from tests.support.tiny import bce_iou, tiny_sam


def test_the_factor_rises_to_one_and_decays_to_the_final_value():
    schedule = WarmupCosine(warmup_fraction=0.1, final=0.1)
    factors = [schedule(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == pytest.approx(1.0)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[54] == pytest.approx(0.1 + 0.9 * 0.5, abs=0.01)  # half way down
    assert factors[99] == pytest.approx(0.1)


def test_a_run_of_one_step_trains_at_the_full_learning_rate():
    assert WarmupCosine()(0, 1) == 1.0
    assert Constant()(0, 1) == 1.0


@pytest.mark.parametrize("schedule", [Constant, WarmupCosine])
@pytest.mark.parametrize("fraction", [-0.1, 2, float("nan")])
def test_a_warmup_that_is_not_a_fraction_is_refused(messages, schedule, fraction):
    with messages.raises(ValueError, f"warmup_fraction={fraction}"):
        schedule(fraction)


def test_the_schedule_scales_the_initial_learning_rate():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=0.5)
    assert set_learning_rate(optimizer, 0.1) == pytest.approx(0.05)
    assert set_learning_rate(optimizer, 0.2) == pytest.approx(0.1)


def test_only_trained_parameters_are_optimized_and_only_matrices_decay():
    model = tiny_sam()
    model.image_encoder.requires_grad_(False)
    decayed, kept = adamw(model, lr=1e-3, weight_decay=0.1).param_groups
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0.0
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in (decayed, kept))
    assert not any(name.startswith("image_encoder") for name in decayed | kept)
    layer = "mask_decoder.transformer.layers.0"
    assert {f"{layer}.self_attn.q_proj.weight", f"{layer}.cross_attn_token_to_image.q_proj.weight"} <= decayed
    assert {"mask_decoder.iou_token.weight", "mask_decoder.mask_tokens.weight", f"{layer}.norm1.bias"} <= kept
    assert not any(name.endswith("bias") or "norm" in name for name in decayed)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert decayed | kept == trained


def test_the_first_matching_factor_scales_the_learning_rate():
    model = tiny_sam()
    factors = [["mask_decoder.iou_*", 8], ["mask_decoder.*", 0.5]]
    optimizer = adamw(model, lr=1e-3, lr_factors=factors, weight_decay=0.1)
    assert set_learning_rate(optimizer, 0.1) == pytest.approx(1e-4)  # the logged lr has no factor
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert named["mask_decoder.iou_prediction_head.layers.0.weight"] == pytest.approx(8e-4)
    assert named["mask_decoder.iou_token.weight"] == pytest.approx(8e-4)
    assert named["mask_decoder.mask_tokens.weight"] == pytest.approx(5e-5)
    assert named["image_encoder.neck.0.weight"] == pytest.approx(1e-4)
    decays = {(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert decays == {(rate, decay) for rate in (8e-3, 5e-4, 1e-3) for decay in (0.1, 0.0)}


def tiny_vit():
    return build_model("lite_medsam", checkpoint=None, image_size=64)


def settings_by_name(model, **options):
    """The parameter group of each parameter by name."""
    groups = {id(p): group for group in adamw(model, **options).param_groups for p in group["params"]}
    return {name: groups[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def test_each_unit_of_a_vit_learns_more_slowly_than_the_next():
    settings = settings_by_name(tiny_sam(), lr=1.0, layer_decay=0.5)
    rates = {name: group["lr"] for name, group in settings.items()}
    assert rates["mask_decoder.iou_token.weight"] == rates["prompt_encoder.no_mask_embed.weight"] == 1
    assert rates["image_encoder.neck.0.weight"] == rates["image_encoder.neck.3.bias"] == 1
    assert rates["image_encoder.blocks.1.attn.qkv.weight"] == rates["image_encoder.blocks.1.norm1.bias"] == 0.5
    assert rates["image_encoder.blocks.0.mlp.lin1.weight"] == rates["image_encoder.blocks.0.attn.rel_pos_h"] == 0.25
    assert rates["image_encoder.patch_embed.proj.weight"] == rates["image_encoder.pos_embed"] == 0.125


def test_each_unit_of_a_tiny_vit_learns_more_slowly_than_the_next():
    settings = settings_by_name(tiny_vit(), lr=1.0, layer_decay=0.5)
    # Of 12 blocks in 4 stages, 3 downsamplings between them, patch embedding and neck.
    expected = {
        "neck.0.weight": 0,
        "layers.3.blocks.1.local_conv.bn.weight": 1,
        "layers.3.blocks.0.attn.attention_biases": 2,
        "layers.2.downsample.conv1.c.weight": 3,
        "layers.2.blocks.5.mlp.fc1.weight": 4,
        "layers.0.blocks.0.conv1.c.weight": 15,
        "patch_embed.seq.0.c.weight": 16,
    }
    assert {name: settings[f"image_encoder.{name}"]["lr"] for name in expected} == {
        name: 0.5**distance for name, distance in expected.items()
    }
    assert settings["mask_decoder.iou_token.weight"]["lr"] == 1


def test_layer_decay_multiplies_with_the_factors_and_1_is_as_none():
    model = tiny_sam()
    factors = [["image_encoder.blocks.*", 0.1]]
    rates = {name: g["lr"] for name, g in settings_by_name(model, lr_factors=factors, lr=1.0, layer_decay=0.5).items()}
    assert rates["image_encoder.blocks.0.norm1.weight"] == pytest.approx(0.1 * 0.25)
    assert rates["image_encoder.neck.0.weight"] == 1
    groups = [adamw(model, layer_decay=decay).param_groups for decay in (None, 1.0)]
    assert [len(group["params"]) for group in groups[0]] == [len(group["params"]) for group in groups[1]]


def test_the_updates_of_lora_learn_faster_unless_a_pattern_names_them():
    model = tiny_sam()
    Lora(blocks=1)(model)
    updates, decoder = "image_encoder.blocks.1.attn.qkv.lora_b", "mask_decoder.iou_token.weight"
    for options, expected in (
        ({}, 10.0),
        ({"lora_lr_factor": 3.0}, 3.0),
        ({"layer_decay": 0.5}, 5.0),  # the last block lies one step before the neck
        ({"lr_factors": [["*.lora_*", 4.0]]}, 4.0),
    ):
        found = settings_by_name(model, lr=1.0, **options)
        assert (found[updates]["lr"], found[decoder]["lr"]) == (expected, 1.0)


@pytest.mark.parametrize("factor", [0, -1.0, float("inf"), float("nan")])
def test_a_rate_of_the_updates_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match="lora_lr_factor="):
        adamw(tiny_sam(), lora_lr_factor=factor)


@pytest.mark.parametrize("decay", [0, -0.5, 1.5, float("nan")])
def test_a_layer_decay_out_of_range_is_refused(messages, decay):
    with messages.raises(ValueError, f"layer_decay={decay}"):
        adamw(tiny_sam(), layer_decay=decay)


@pytest.mark.parametrize("build", [tiny_sam, tiny_vit])
def test_norms_biases_and_position_tables_of_an_encoder_do_not_decay(build):
    model = build()
    settings = settings_by_name(model, weight_decay=0.1)
    norms = {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__ and type(module).__name__ not in ("ConvNorm", "NormMlp")
        for own in ("weight", "bias")
    }
    tables = {name for name in settings if "pos_embed" in name or "rel_pos" in name or "attention_biases" in name}
    biases = {name for name in settings if name.endswith(".bias")}
    kept = {name for name, group in settings.items() if group["weight_decay"] == 0}
    assert len(norms) > 10
    assert len(tables) > 4
    assert norms | tables | biases <= kept
    rest = kept - norms - tables - biases
    assert all("token" in name or name.startswith("prompt_encoder.") for name in rest), rest


@pytest.mark.parametrize("build", [tiny_sam, tiny_vit])
def test_every_parameter_in_the_optimizer_gets_a_gradient(build):
    model = build()
    Freeze(["*"])(model)
    freeze_unreached(model, Box())
    task = PromptedSegmentation(model, bce_iou())
    passes = split_into_passes(task, batch_of([1, 4]), Box(), seed=0)
    for given in passes.decoder:
        task(given)["loss"].sum().backward()
    task(passes.encoder())["loss"].sum().backward()
    names = {id(p): name for name, p in model.named_parameters()}
    optimized = [p for group in adamw(model).param_groups for p in group["params"]]
    assert [names[id(p)] for p in optimized if p.grad is None or not p.grad.any()] == []
    assert any(names[id(p)].startswith("image_encoder.") for p in optimized)


@pytest.mark.parametrize("betas", [0.9, None, [0.9], [0.9, 0.99, 0.999], [0.9, 1], [0.9, "slow"], [True, 0.9]])
def test_betas_other_than_two_numbers_below_1_are_refused(messages, betas):
    with messages.raises(ValueError, "betas="):
        adamw(tiny_sam(), betas=betas)


@pytest.mark.parametrize(
    ("factors", "fact"),
    [
        ([["image_encodr.*", 0.1]], '"image_encodr.*"'),
        ([["image_encoder.*", 0]], "lr_factors="),
        ([["image_encoder.*", float("nan")]], "lr_factors="),
        ([["image_encoder.*", True]], "lr_factors="),
        ([["image_encoder.*", "slow"]], "lr_factors="),
        ([["image_encoder.*"]], "lr_factors="),
        (["image_encoder.*"], "lr_factors="),
        ([0.1], "lr_factors="),
        (None, "lr_factors="),
    ],
)
def test_invalid_lr_factors_are_refused(messages, factors, fact):
    with messages.raises(ValueError, fact):
        adamw(tiny_sam(), lr_factors=factors)
