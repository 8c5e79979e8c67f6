"""Losses against numbers worked out by hand on 2 x 2 masks."""

import math

import pytest
import torch
import torch.nn.functional as F

from sam_ft.losses import (
    BceIou,
    DiceFocalIou,
    at_input_side,
    binary_cross_entropy,
    dice_loss,
    focal_loss,
    iou_head_loss,
    log_sigmoid,
    soft_iou_loss,
)
from sam_ft.types import Prediction

# One object whose mask is the left column; the model gives probabilities .8 there and .5, .2 on the right.
PROBABILITIES = torch.tensor([[[0.8, 0.5], [0.8, 0.2]]])
LOGITS = PROBABILITIES.logit()
MASK = torch.tensor([[[True, False], [True, False]]])
ALL = torch.ones(1, 2, 2, dtype=torch.bool)


def prediction(iou=0.5):
    return Prediction(LOGITS[:, None], torch.tensor([[iou]]))


def test_bce_is_the_mean_of_minus_log_probability_of_the_truth():
    by_hand = -(math.log(0.8) + math.log(0.5) + math.log(0.8) + math.log(0.8)) / 4
    assert BceIou()(prediction(), MASK, ALL)["bce"].item() == pytest.approx(by_hand, abs=1e-6)


def test_soft_iou_is_one_minus_overlap_over_union():
    # overlap .8 + .8 = 1.6, union 2.3 + 2 - 1.6 = 2.7
    assert soft_iou_loss(LOGITS, MASK, ALL).item() == pytest.approx(1 - 1.6 / 2.7, abs=1e-6)


def test_dice_is_one_minus_twice_overlap_over_areas():
    assert dice_loss(LOGITS, MASK, ALL).item() == pytest.approx(1 - 3.2 / 4.3, abs=1e-6)


def test_focal_discounts_easy_pixels():
    # truth has probability .8 (object) twice, .5 and .8 (background): a (1 - p)^2 (-log p)
    object_pixel = 0.25 * 0.2**2 * -math.log(0.8)
    by_hand = (2 * object_pixel + 0.75 * 0.5**2 * -math.log(0.5) + 0.75 * 0.2**2 * -math.log(0.8)) / 4
    assert focal_loss(LOGITS, MASK, ALL, 0.25, 2.0).item() == pytest.approx(by_hand, abs=1e-6)


def test_focal_with_gamma_zero_is_half_the_cross_entropy():
    half = focal_loss(LOGITS, MASK, ALL, 0.5, 0.0)
    torch.testing.assert_close(half, BceIou()(prediction(), MASK, ALL)["bce"] / 2)


def test_iou_head_is_pulled_towards_the_iou_that_the_mask_has():
    # > 0 are the two left pixels (p = .5 is logit 0, not above): IoU 1; guessed .5
    assert iou_head_loss(prediction(0.5), LOGITS, MASK, ALL).item() == pytest.approx(0.25)


def test_iou_head_loss_moves_the_guess_and_not_the_mask():
    guess = torch.tensor([[0.5]], requires_grad=True)
    logits = LOGITS.clone().requires_grad_()
    iou_head_loss(Prediction(logits[:, None], guess), logits, MASK, ALL).backward()
    assert guess.grad.item() == pytest.approx(-1.0)
    assert logits.grad is None


@pytest.mark.parametrize("loss", [BceIou(), DiceFocalIou()])
def test_padding_teaches_nothing(loss):
    valid = torch.tensor([[[True, False], [True, False]]])
    logits = LOGITS.clone()[:, None].requires_grad_()
    parts = loss(Prediction(logits, torch.tensor([[0.5]])), MASK, valid)
    parts["loss"].sum().backward()
    assert (logits.grad[0, 0, :, 1] == 0).all()
    assert (logits.grad[0, 0, :, 0] != 0).all()
    other = logits.detach().clone()
    other[0, 0, :, 1] = 7.0
    torch.testing.assert_close(loss(Prediction(other, torch.tensor([[0.5]])), MASK, valid)["loss"], parts["loss"])


@pytest.mark.parametrize(("loss", "weights"), [(BceIou(2.0, 3.0, 4.0), (2, 3, 4)), (DiceFocalIou(), (20, 1, 1))])
def test_the_loss_is_the_weighted_sum_of_its_parts(loss, weights):
    total, *parts = loss(prediction(), MASK, ALL).values()
    torch.testing.assert_close(total, sum(w * part for w, part in zip(weights, parts, strict=True)))


@pytest.mark.parametrize("loss", [BceIou(), DiceFocalIou()])
def test_each_object_has_its_own_number(loss):
    two = Prediction(torch.cat([LOGITS, -LOGITS])[:, None], torch.tensor([[0.5], [0.1]]))
    both = loss(two, MASK.repeat(2, 1, 1), ALL.repeat(2, 1, 1))["loss"]
    alone = loss(Prediction(two.logits[1:], two.iou[1:]), MASK, ALL)["loss"]
    torch.testing.assert_close(both[1:], alone)


@pytest.mark.parametrize("loss", [BceIou(), DiceFocalIou()])
def test_gradients_are_right(loss):
    logits = LOGITS.double()[:, None].requires_grad_()
    guess = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)

    def total(logits, guess):
        parts = loss(Prediction(logits, guess), MASK, ALL)
        return parts["loss"]

    # the losses compute in float32 by design, so the finite difference is coarse
    step = 1e-2
    total(logits, guess).backward()
    for row in range(2):
        for column in range(2):
            shift = torch.zeros_like(logits)
            shift[0, 0, row, column] = step
            difference = (total(logits + shift, guess) - total(logits - shift, guess)).item() / (2 * step)
            if row or not column:  # logit 0 is the edge of the thresholded mask, where the IoU head's target jumps
                assert logits.grad[0, 0, row, column].item() == pytest.approx(difference, abs=2e-3)


def test_bfloat16_predictions_are_scored_in_float32():
    low = Prediction(LOGITS[:, None].bfloat16(), torch.tensor([[0.5]]).bfloat16())
    assert BceIou()(low, MASK, ALL)["loss"].dtype == torch.float32


def test_coarse_logits_are_scored_at_the_masks_side():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    coarse = Prediction(torch.full((1, 1, 1, 1), 0.0), torch.zeros(1, 1))
    assert BceIou()(coarse, mask, torch.ones_like(mask))["bce"].item() == pytest.approx(math.log(2))


def test_several_candidates_are_refused():
    with pytest.raises(ValueError, match="one candidate"):
        BceIou()(Prediction(LOGITS[:, None].repeat(1, 3, 1, 1), torch.zeros(1, 3)), MASK, ALL)


@pytest.mark.parametrize("side", [8, 20, 32])
def test_logits_are_upsampled_as_by_sam_predictor_and_so_are_their_gradients(side):
    coarse = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    cost = torch.randn(3, side, side)
    ours = at_input_side(Prediction(coarse, torch.zeros(3, 1)), side)
    theirs = F.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)[:, 0]
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad((x * cost).sum(), coarse)[0] for x in (ours, theirs)))


@pytest.mark.parametrize("loss", [BceIou(), DiceFocalIou()])
def test_no_objects_give_no_numbers(loss):
    empty = Prediction(torch.zeros(0, 1, 2, 2, requires_grad=True), torch.zeros(0, 1, requires_grad=True))
    nothing = torch.zeros(0, 4, 4, dtype=torch.bool)
    parts = loss(empty, nothing, nothing)
    assert all(part.shape == (0,) for part in parts.values())
    parts["loss"].sum().backward()
    assert empty.logits.grad.shape == (0, 1, 2, 2)


def test_a_wrong_logit_of_a_hundred_costs_a_hundred():
    sure = torch.tensor([[[100.0, -100.0], [100.0, 100.0]]], requires_grad=True)  # one pixel of four is wrong
    values = binary_cross_entropy(sure, torch.tensor([[[True, False], [True, False]]]), ALL)
    assert values.item() == 25.0
    values.backward()
    torch.testing.assert_close(sure.grad, torch.tensor([[[0.0, 0.0], [0.0, 0.25]]]))


def test_log_sigmoid_and_its_gradient_are_those_of_float64():
    x = torch.linspace(-120, 120, 2401)
    ours, true = x.clone().requires_grad_(), x.double().requires_grad_()
    log_sigmoid(ours).sum().backward()
    F.logsigmoid(true).sum().backward()
    torch.testing.assert_close(log_sigmoid(x), F.logsigmoid(x.double()).float(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.grad, true.grad.float(), rtol=1e-6, atol=1e-7)
