from itertools import pairwise

import pytest
import torch
from torch import nn

from sam_ft.training.optim import Constant, WarmupCosine, adamw, set_learning_rate
from tests.support.tiny import tiny_sam


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
