"""Pixelwise terms against values computed by hand."""

import math

import pytest
import torch

from sam_ft.losses import Bce, BoundaryBce, Focal
from tests.support.losses import ALL, LOGITS, MASK


def test_bce_is_the_mean_negative_log_probability_of_the_gt():
    by_hand = -(math.log(0.8) + math.log(0.5) + math.log(0.8) + math.log(0.8)) / 4
    assert Bce()(LOGITS, MASK, ALL).item() == pytest.approx(by_hand, abs=1e-6)


def test_a_wrong_logit_of_a_hundred_costs_a_hundred():
    logits = torch.tensor([[[100.0, -100.0], [100.0, 100.0]]], requires_grad=True)  # one pixel of four is wrong
    values = Bce()(logits, MASK, ALL)
    assert values.item() == 25.0
    values.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[[0.0, 0.0], [0.0, 0.25]]]))


def test_focal_discounts_easy_pixels():
    # probability of the gt: .8 (object) twice, .5 and .8 (background); a (1 - p)^2 (-log p)
    object_pixel = 0.25 * 0.2**2 * -math.log(0.8)
    by_hand = (2 * object_pixel + 0.75 * 0.5**2 * -math.log(0.5) + 0.75 * 0.2**2 * -math.log(0.8)) / 4
    assert Focal()(LOGITS, MASK, ALL).item() == pytest.approx(by_hand, abs=1e-6)


def test_focal_with_gamma_zero_is_half_the_cross_entropy():
    torch.testing.assert_close(Focal(alpha=0.5, gamma=0.0)(LOGITS, MASK, ALL), Bce()(LOGITS, MASK, ALL) / 2)


def test_boundary_bce_is_the_mean_over_pixels_beside_the_edge():
    # the object is the first two columns of six: columns 1 and 2 touch the edge
    mask = (torch.arange(6) < 2).expand(1, 6, 6)
    logits = torch.tensor([9.0, 1.0, -2.0, 9.0, 9.0, 9.0]).expand(1, 6, 6)
    by_hand = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
    assert BoundaryBce()(logits, mask, torch.ones_like(mask)).item() == pytest.approx(by_hand, abs=1e-6)


def test_the_width_of_the_boundary_is_in_pixels_of_a_1024_input():
    # at 256 a width of 8 is 2 pixels on each side of the edge between columns 99 and 100
    mask = (torch.arange(256) < 100).expand(1, 256, 256)
    logits = torch.zeros(1, 256, 256, requires_grad=True)
    BoundaryBce(width=8.0)(logits, mask, torch.ones_like(mask)).backward()
    touched = (logits.grad != 0)[0]
    assert touched.any(0).nonzero().flatten().tolist() == [98, 99, 100, 101]
    assert touched[:, 98:102].all()


def test_the_border_of_the_image_and_invalid_pixels_form_no_edge():
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, :, :3] = True
    valid = torch.ones_like(mask)
    valid[0, :, 3] = False  # between the object and the background
    assert BoundaryBce()(torch.zeros(1, 6, 6), mask, valid).item() == 0.0
    whole = torch.ones_like(mask)
    assert BoundaryBce()(torch.zeros(1, 6, 6), whole, whole).item() == 0.0


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: Focal(alpha=1.5), "alpha=1.5;"),
        (lambda: Focal(gamma=-1.0), "gamma=-1.0;"),
        (lambda: Focal(gamma=0.5), "gamma=0.5;"),
        (lambda: BoundaryBce(width=0.0), "width=0.0;"),
        (lambda: BoundaryBce(width=math.inf), "width=inf;"),
    ],
)
def test_an_option_out_of_range_is_refused(messages, make, fact):
    with messages.raises(ValueError, fact):
        make()
