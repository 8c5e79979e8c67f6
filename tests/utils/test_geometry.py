import cv2
import numpy as np
import pytest
import scipy.ndimage
import torch

from sam_ft.utils import geometry
from tests.support.blobs import Blobs


def random_masks(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((count, height, width)) < 2 / (height * width) + 0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 9), (40, 30)])
def test_boxes_are_those_of_opencv(size):
    masks = random_masks(60, *size)
    expected = [(x, y, x + w, y + h) for x, y, w, h in (cv2.boundingRect(m.numpy().astype(np.uint8)) for m in masks)]
    assert geometry.masks_to_boxes(masks).tolist() == [list(map(float, box)) for box in expected]


def test_a_box_ends_one_past_the_last_pixel():
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1:3, 2] = True
    assert geometry.masks_to_boxes(mask).tolist() == [[2, 1, 3, 3]]


def test_no_masks_have_no_boxes_and_an_empty_mask_has_a_box_of_zeros():
    assert geometry.masks_to_boxes(torch.zeros(0, 4, 4, dtype=torch.bool)).shape == (0, 4)
    assert geometry.masks_to_boxes(torch.zeros(1, 4, 4, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("size", [(480, 640), (1, 500), (333, 1000), (1024, 1024), (17, 31), (1272, 603)])
def test_sizes_are_rounded_as_sam_predictor_does(size):
    from segment_anything.utils.transforms import ResizeLongestSide

    assert geometry.resized_size(size, 1024) == ResizeLongestSide.get_preprocess_shape(*size, 1024)


def test_a_thin_image_keeps_one_pixel():
    assert geometry.resized_size((1, 5000), 256) == (1, 256)


def test_boxes_are_scaled_as_sam_predictor_does():
    from segment_anything.utils.transforms import ResizeLongestSide

    boxes = torch.tensor([[0.0, 0, 603, 1272], [10, 20, 31, 41], [602, 1271, 603, 1272]])
    size = (1272, 603)
    expected = ResizeLongestSide(1024).apply_boxes(boxes.numpy(), size)
    scaled = geometry.scale_boxes(boxes, size, geometry.resized_size(size, 1024))
    torch.testing.assert_close(scaled, torch.from_numpy(expected).float())


def test_points_are_scaled_each_axis_by_its_own_ratio():
    points = torch.tensor([[[10.0, 10.0]]])
    assert geometry.scale_points(points, (20, 40), (10, 10)).tolist() == [[[2.5, 5.0]]]


@pytest.mark.parametrize("old", [1, 3, 7, 10, 64])
@pytest.mark.parametrize("new", [1, 2, 5, 7, 33])
def test_a_resized_pixel_is_the_one_its_center_fell_into(old, new):
    masks = random_masks(8, 2, old) | random_masks(8, 2, old, seed=1)
    columns = [int((i + 0.5) * old / new) for i in range(new)]
    assert torch.equal(geometry.resize_masks(masks, (2, new)), masks[:, :, columns])


def test_no_masks_are_resized_to_no_masks():
    assert geometry.resize_masks(torch.zeros(0, 4, 4, dtype=torch.bool), (2, 3)).shape == (0, 2, 3)


def test_a_box_grows_round_its_center():
    assert geometry.grow_boxes(torch.tensor([[2.0, 4, 6, 12]]), 1.5).tolist() == [[1, 2, 7, 14]]


def test_jitter_is_in_units_of_the_box_and_limited():
    box = torch.tensor([[10.0, 10, 30, 110]])
    moved = geometry.jitter_boxes(box, torch.tensor([[0.1, 0.1, -0.5, -9.0]]), max_shift=15)
    assert moved.tolist() == [[12, 20, 20, 95]]


@pytest.mark.parametrize(
    ("box", "fitted"),
    [
        ((-3, -3, 20, 20), (0, 0, 8, 4)),  # larger than the image
        ((5, 1, 2, 3), (2, 1, 5, 3)),  # turned over by jitter
        ((3, 2, 3, 2), (2.5, 1.5, 3.5, 2.5)),  # no area
        ((8, 4, 9, 5), (7, 3, 8, 4)),  # outside, at the corner
        ((0, 0, 0.5, 0.5), (0, 0, 1, 1)),  # smaller than a pixel, at the border
    ],
)
def test_fitted_boxes_are_inside_the_image_and_at_least_a_pixel(box, fitted):
    assert geometry.fit_boxes(torch.tensor([box]).float(), [(4, 8)]).tolist() == [list(map(float, fitted))]


def test_boxes_fit_into_an_image_of_one_pixel():
    assert geometry.fit_boxes(torch.tensor([[0.2, 0.3, 0.9, 5.0]]), [(1, 1)]).tolist() == [[0, 0, 1, 1]]


def test_distances_are_exact_and_do_not_change_from_call_to_call():
    rng = np.random.default_rng(0)
    for width in range(61, 121):
        y, x = np.mgrid[:61, :width]
        squared = (y - 30) ** 2 + (x - 30) ** 2
        ring = ((squared < 30**2) & (squared > rng.uniform(5, 20) ** 2)).astype(np.uint8)
        found = set()
        for _ in range(15):
            kept = [np.empty(size, np.uint8) for size in rng.integers(1, 100000, 2)]  # moves what is made next
            found.add(geometry.distance_to_zero(ring).tobytes())
            del kept
        exact = scipy.ndimage.distance_transform_edt(ring).astype(np.float32)
        assert found == {exact.tobytes()}


def test_every_pixel_of_a_region_is_as_likely():
    picked, found = geometry.pick_pixels(torch.tensor([[[0, 1, 1], [0, 1, 0]]]).bool(), torch.arange(0, 1, 0.01)[None])
    assert found.item()
    places, counts = picked[0].unique(dim=0, return_counts=True)
    assert places.tolist() == [[1, 0], [1, 1], [2, 0]]
    assert counts.tolist() == [34, 32, 34] or sorted(counts.tolist()) == [33, 33, 34]


def test_an_empty_region_has_no_pixel():
    assert not geometry.pick_pixels(torch.zeros(2, 3, 4).bool(), torch.tensor([[0.0], [0.999]]))[1].any()


def test_the_center_is_deepest_inside_by_an_independent_distance_transform():
    for index in range(5):
        mask = Blobs([6] * 5)[index].masks.any(0).numpy()
        x, y, depth = geometry.deepest_pixel(mask)
        reference = scipy.ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert depth == pytest.approx(reference.max(), abs=1e-4)
        assert reference[y, x] == pytest.approx(reference.max(), abs=1e-4)


def test_the_border_of_the_image_counts_as_outside():
    assert geometry.deepest_pixel(np.ones((5, 7), bool)) == (2, 2, 3.0)  # the first of the three in the middle row
    assert geometry.deepest_pixel(np.zeros((3, 3), bool)) == (0, 0, 0.0)
