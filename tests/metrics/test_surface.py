import pytest
import torch

from sam_ft.metrics import SurfaceDistance
from sam_ft.utils.errors import ConfigError
from tests.support.masks import random_pairs, rows, square


def nsd_and_hd95(predicted, gt, tolerance):
    values = SurfaceDistance(tolerance)(predicted, gt)
    return values["nsd"].item(), values["hd95"].item()


def test_a_square_shifted_by_one_pixel_is_off_by_one_pixel():
    # each outline has 12 pixels: 6 lie on the other outline and 6 next to it
    pair = square(4, 4, top=2, left=2), square(4, 4, top=2, left=3)
    assert nsd_and_hd95(*pair, tolerance=0) == (12 / 24, 1)
    assert nsd_and_hd95(*pair, tolerance=1) == (1, 1)


def test_squares_three_columns_apart():
    # in both directions 2 of the 4 pixels are 2 columns away and 2 are 3 columns away
    pair = square(2, 2, top=4, left=0), square(2, 2, top=4, left=3)
    assert nsd_and_hd95(*pair, tolerance=2) == (4 / 8, 3)
    assert nsd_and_hd95(*pair, tolerance=1.9) == (0, 3)


def test_distances_are_euclidean():
    # 3 right and 4 down is 5
    pair = square(1, 1, top=1, left=1), square(1, 1, top=5, left=4)
    assert nsd_and_hd95(*pair, tolerance=5) == (1, 5)
    assert nsd_and_hd95(*pair, tolerance=4.99) == (0, 5)


def test_an_outline_exactly_at_the_tolerance_is_within_it():
    for columns in range(1, 64):
        pair = square(1, 1, top=0, left=0, side=64), square(1, 1, top=0, left=columns, side=64)
        assert nsd_and_hd95(*pair, tolerance=columns) == (1, columns)


def test_hd95_is_the_larger_of_both_directions():
    # from the gt pixel: 0. From the predicted ones: 0 and 5, 95th percentile 4.75; of all three pooled: 4.5
    assert nsd_and_hd95(rows("#....#"), rows("#....."), tolerance=0) == (2 / 3, 4.75)


def test_an_empty_prediction_has_the_image_diagonal_as_hd95():
    assert nsd_and_hd95(torch.zeros(1, 6, 8, dtype=torch.bool), torch.ones(1, 6, 8, dtype=torch.bool), 2) == (0, 10)


def test_no_objects_give_no_values():
    none = torch.zeros(0, 8, 8, dtype=torch.bool)
    assert {name: value.shape for name, value in SurfaceDistance()(none, none).items()} == {"nsd": (0,), "hd95": (0,)}


# MONAI 1.6 itself passes an argument that it deprecates
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.0, 3.5])
def test_values_are_those_of_monai(tolerance):
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    predicted, gt = random_pairs(30, (41, 56))
    one_hot = predicted[:, None].float(), gt[:, None].float()  # (N, 1 class, H, W)
    nsd = compute_surface_dice(*one_hot, class_thresholds=[tolerance], include_background=True)
    hd95 = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95)
    values = SurfaceDistance(tolerance)(predicted, gt)
    assert values["nsd"].tolist() == pytest.approx(nsd[:, 0].tolist(), abs=1e-6)
    assert values["hd95"].tolist() == pytest.approx(hd95[:, 0].tolist(), abs=1e-5)
    assert len(set(values["hd95"].tolist())) > 10


def test_a_negative_tolerance_is_refused(messages):
    with messages.raises(ConfigError, "tolerance=-1;"):
        SurfaceDistance(-1)
