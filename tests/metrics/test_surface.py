import pytest
import torch

from sam_ft.metrics import SurfaceDistance
from sam_ft.utils.errors import ConfigError
from tests.support.masks import random_pairs, rows, square


def measured(predicted, true, tolerance):
    values = SurfaceDistance(tolerance)(predicted, true)
    return values["nsd"].item(), values["hd95"].item()


def test_a_square_shifted_by_one_pixel_is_off_by_one_pixel():
    # each outline has 12 pixels, of which 6 lie on the other one and 6 right beside it
    pair = square(4, 4, top=2, left=2), square(4, 4, top=2, left=3)
    assert measured(*pair, tolerance=0) == (12 / 24, 1)
    assert measured(*pair, tolerance=1) == (1, 1)


def test_squares_three_columns_apart():
    # both ways, 2 of the 4 pixels are 2 columns off and 2 are 3 columns off
    pair = square(2, 2, top=4, left=0), square(2, 2, top=4, left=3)
    assert measured(*pair, tolerance=2) == (4 / 8, 3)
    assert measured(*pair, tolerance=1.9) == (0, 3)


def test_distances_are_counted_as_the_crow_flies():
    # 3 right and 4 down is 5
    pair = square(1, 1, top=1, left=1), square(1, 1, top=5, left=4)
    assert measured(*pair, tolerance=5) == (1, 5)
    assert measured(*pair, tolerance=4.99) == (0, 5)


def test_an_outline_exactly_at_the_tolerance_is_within_it():
    for columns in range(1, 64):
        pair = square(1, 1, top=0, left=0, side=64), square(1, 1, top=0, left=columns, side=64)
        assert measured(*pair, tolerance=columns) == (1, columns)


def test_hd95_is_that_of_the_worse_way():
    # from the true pixel: 0. From the predicted ones: 0 and 5, whose 95th percentile is 4.75; all three together: 4.5
    assert measured(rows("#....#"), rows("#....."), tolerance=0) == (2 / 3, 4.75)


def test_an_empty_prediction_is_as_far_off_as_the_image_is_long():
    assert measured(torch.zeros(1, 6, 8, dtype=torch.bool), torch.ones(1, 6, 8, dtype=torch.bool), 2) == (0, 10)


def test_no_objects_give_no_values():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert {name: value.shape for name, value in SurfaceDistance()(none, none).items()} == {"nsd": (0,), "hd95": (0,)}


# MONAI 1.6 passes an argument on that it says not to pass
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0, 3.5])
def test_values_are_those_of_monai(tolerance):
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    predicted, true = random_pairs(30, (41, 56))
    one_hot = predicted[:, None].float(), true[:, None].float()  # (N, 1 class, H, W)
    nsd = compute_surface_dice(*one_hot, class_thresholds=[tolerance], include_background=True)
    hd95 = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95)
    values = SurfaceDistance(tolerance)(predicted, true)
    assert values["nsd"].tolist() == pytest.approx(nsd[:, 0].tolist(), abs=1e-6)
    assert values["hd95"].tolist() == pytest.approx(hd95[:, 0].tolist(), abs=1e-5)
    assert len(set(values["hd95"].tolist())) > 10


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ConfigError, match="tolerance=-1; expected a number of pixels"):
        SurfaceDistance(-1)
