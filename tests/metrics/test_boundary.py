import numpy as np
import pytest
import torch
from scipy import ndimage

from sam_ft.metrics import BoundaryIou
from sam_ft.utils.errors import ConfigError
from tests.support.masks import random_pairs, square


def boundary_iou(predicted, gt, dilation_ratio=0.02):
    (value,) = BoundaryIou(dilation_ratio)(predicted, gt)["boundary_iou"].tolist()
    return value


def test_a_shifted_square_shares_a_third_of_its_outline():
    # 0.02 of the diagonal of 8x8 is below the minimum of 1 pixel. Each 4x4 square has an outline of 12 pixels; 3 of the
    # upper and 3 of the lower edge are shared, none of the sides: 6 / (12 + 12 - 6)
    assert boundary_iou(square(4, 4, top=2, left=2), square(4, 4, top=2, left=3)) == 6 / 18


def test_pixels_inside_the_outline_do_not_matter():
    solid, ring = square(6, 6, 1, 1), square(6, 6, 1, 1) & ~square(4, 4, 2, 2)
    assert boundary_iou(ring, solid) == 1


def test_the_dilation_ratio_is_a_fraction_of_the_diagonal():
    # 0.2 of the diagonal of 8x8 is 2.3, so 2 pixels: of 6x6 all but the inner 2x2, of which the ring holds 20
    solid, ring = square(6, 6, 1, 1), square(6, 6, 1, 1) & ~square(4, 4, 2, 2)
    assert boundary_iou(ring, solid, dilation_ratio=0.2) == 20 / 32


def test_the_border_of_the_image_is_a_boundary():
    # outlines of 28 and 26 pixels, which differ in the last two columns: 28 - 8 = 20 are shared
    assert boundary_iou(square(8, 7, 0, 0), square(8, 8, 0, 0)) == 20 / 34


def test_an_empty_prediction_scores_zero():
    assert boundary_iou(square(0, 0, 0, 0), square(4, 4, 2, 2)) == 0


def test_no_objects_give_no_values():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert BoundaryIou()(none, none)["boundary_iou"].shape == (0,)


# the diagonal of 30x40 is 50: 1, 1.5, 2.5 and 5 pixels, with halves rounded to the even number
@pytest.mark.parametrize(("dilation_ratio", "dilation"), [(0.02, 1), (0.03, 2), (0.05, 2), (0.1, 5)])
def test_boundaries_are_the_pixels_that_an_erosion_of_the_whole_image_removes(dilation_ratio, dilation):
    predicted, gt = random_pairs(20, (30, 40))
    expected = []
    for masks in zip(predicted.numpy(), gt.numpy(), strict=True):
        a, b = (m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=dilation) for m in masks)
        expected.append((a & b).sum() / (a | b).sum())
    values = BoundaryIou(dilation_ratio)(predicted, gt)["boundary_iou"]
    assert values.dtype == torch.float64
    assert values.tolist() == expected
    assert len(set(expected)) > 10


@pytest.mark.parametrize("dilation_ratio", [0, -0.1, 2])
def test_a_dilation_ratio_that_is_not_a_fraction_is_refused(messages, dilation_ratio):
    with messages.raises(ConfigError, f"dilation_ratio={dilation_ratio};"):
        BoundaryIou(dilation_ratio)
