import numpy as np
import pytest
import torch
from scipy import ndimage

from sam_ft.metrics import BoundaryIou
from sam_ft.utils.errors import ConfigError
from tests.support.masks import random_pairs, square


def boundary_iou(predicted, true, width=0.02):
    (value,) = BoundaryIou(width)(predicted, true)["boundary_iou"].tolist()
    return value


def test_a_shifted_square_shares_a_third_of_its_outline():
    # 8x8, so 0.02 of the diagonal is less than the 1 pixel that there is at least. Each 4x4 square has an outline of
    # 12; of the upper and of the lower edge 3 pixels are shared, of the sides none: 6 / (12 + 12 - 6)
    assert boundary_iou(square(4, 4, top=2, left=2), square(4, 4, top=2, left=3)) == 6 / 18


def test_what_lies_inside_the_outline_does_not_matter():
    solid, ring = square(6, 6, 1, 1), square(6, 6, 1, 1) & ~square(4, 4, 2, 2)
    assert boundary_iou(ring, solid) == 1


def test_a_wider_boundary_is_measured_as_a_share_of_the_diagonal():
    # 0.2 of the diagonal of 8x8 is 2.3, so 2 pixels: of 6x6 all but the inner 2x2, of which the ring holds 20
    solid, ring = square(6, 6, 1, 1), square(6, 6, 1, 1) & ~square(4, 4, 2, 2)
    assert boundary_iou(ring, solid, width=0.2) == 20 / 32


def test_the_border_of_the_image_is_a_boundary():
    # an outline of 28 and one of 26, which miss each other in the last two columns: 28 - 8 = 20 are shared
    assert boundary_iou(square(8, 7, 0, 0), square(8, 8, 0, 0)) == 20 / 34


def test_an_empty_prediction_scores_zero():
    assert boundary_iou(square(0, 0, 0, 0), square(4, 4, 2, 2)) == 0


def test_no_objects_give_no_values():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert BoundaryIou()(none, none)["boundary_iou"].shape == (0,)


# the diagonal of 30x40 is 50: 1, 1.5, 2.5 and 5 pixels, with halves rounded to the even number
@pytest.mark.parametrize(("width", "pixels"), [(0.02, 1), (0.03, 2), (0.05, 2), (0.1, 5)])
def test_boundaries_are_what_erosion_of_the_whole_image_takes_away(width, pixels):
    predicted, true = random_pairs(20, (30, 40))
    expected = []
    for masks in zip(predicted.numpy(), true.numpy(), strict=True):
        found, wanted = (m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=pixels) for m in masks)
        expected.append((found & wanted).sum() / (found | wanted).sum())
    values = BoundaryIou(width)(predicted, true)["boundary_iou"]
    assert values.dtype == torch.float64
    assert values.tolist() == expected
    assert len(set(expected)) > 10


@pytest.mark.parametrize("width", [0, -0.1, 2])
def test_a_width_that_is_no_share_is_refused(width):
    with pytest.raises(ConfigError, match=f"width={width}; expected a share of the image's diagonal"):
        BoundaryIou(width)
