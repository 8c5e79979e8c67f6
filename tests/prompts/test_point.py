import numpy as np
import pytest
import torch
from scipy import ndimage

from sam_ft.data.transforms import ResizeLongestSide
from sam_ft.prompts import Point
from sam_ft.types import collate
from sam_ft.utils.geometry import deepest_pixel, pick_pixels
from tests.prompts.test_box import batch, sample
from tests.support.blobs import Blobs


def evaluation(*samples, side=64):
    return collate([ResizeLongestSide(side, keep_original=True)(s) for s in samples], side)


def at(masks, points):
    """The value of each (N, H, W) mask at its (N, K, 2) points."""
    x, y = points.long().unbind(-1)
    return masks[torch.arange(len(masks))[:, None], y, x]


def test_random_points_lie_on_the_object_and_beside_it():
    given = collate([ResizeLongestSide(64)(Blobs([5, 3])[index]) for index in (0, 1)], 64)
    for seed in range(20):
        prompts = Point(positive=3, negative=2)(given, seed)
        assert prompts.point_labels.tolist() == [[1, 1, 1, 0, 0]] * 8
        assert at(given.masks, prompts.points).tolist() == [[True] * 3 + [False] * 2] * 8
        distance = (prompts.points[:, 3:] - given.boxes.reshape(-1, 2, 2).mean(1)[:, None]).abs()
        sides = given.boxes[:, 2:] - given.boxes[:, :2]
        assert (distance <= 0.75 * sides[:, None] + 1).all()  # in the box grown by a half


def test_every_pixel_of_the_object_is_as_likely():
    picked, found = pick_pixels(torch.tensor([[[0, 1, 1], [0, 1, 0]]]).bool(), torch.arange(0, 1, 0.01)[None])
    assert found.item()
    places, counts = picked[0].unique(dim=0, return_counts=True)
    assert places.tolist() == [[1, 0], [1, 1], [2, 0]]
    assert counts.tolist() == [34, 32, 34] or sorted(counts.tolist()) == [33, 33, 34]


def test_an_empty_region_has_no_pixel():
    assert not pick_pixels(torch.zeros(2, 3, 4).bool(), torch.tensor([[0.0], [0.999]]))[1].any()


def test_an_object_that_fills_the_picture_has_padding_for_background_points():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = True
    prompts = Point(positive=1, negative=1)(batch(given), 0)
    assert prompts.point_labels.tolist() == [[1, -1]]


def test_the_centre_is_deepest_inside_by_an_independent_distance_transform():
    for index in range(5):
        mask = Blobs([6] * 5)[index].masks.any(0).numpy()
        x, y, depth = deepest_pixel(mask)
        reference = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert depth == pytest.approx(reference.max(), abs=1e-4)
        assert reference[y, x] == pytest.approx(reference.max(), abs=1e-4)


def test_the_border_of_the_picture_counts_as_outside():
    assert deepest_pixel(np.ones((5, 7), bool)) == (2, 2, 3.0)  # the first of the three in the middle row
    assert deepest_pixel(np.zeros((3, 3), bool)) == (0, 0, 0.0)


def test_points_of_an_evaluation_are_pixels_of_the_original_image():
    given = sample("a", 80, 128, objects=1)
    given.masks[:] = False
    given.masks[0, 10:15, 20:29] = True  # 5 high, 9 wide: row 12 is deepest, from column 22
    prompts = Point(sampling="center")(evaluation(given), 0)
    assert (prompts.points * 2).tolist() == [[[22, 12]]]  # input side 64, half of the original
    random = Point(3)(evaluation(given), 0).points * 2
    assert at(given.masks, random).all()


def test_a_second_centre_stays_away_from_the_first():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = False
    given.masks[0, 10:15, 20:41] = True  # 21 wide: the first point is at the left, its circle of 3 is taken
    points = Point(2, sampling="center")(evaluation(given), 0).points[0].tolist()
    assert points == [[22, 12], [25, 12]]


def test_points_of_an_object_hang_neither_on_the_batch_nor_on_the_others():
    samples = [Blobs([5, 3])[index] for index in (0, 1)]
    together = Point(2, 1)(evaluation(*samples), 3).points
    assert torch.equal(Point(2, 1)(evaluation(samples[1]), 3).points, together[5:])
    assert torch.equal(Point(2, 1)(evaluation(samples[0].select(torch.tensor([2]))), 3).points, together[2:3])


def test_where_an_object_has_fewer_pixels_than_points_there_is_padding():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = False
    given.masks[0, 10, 20:22] = True
    prompts = Point(3, sampling="center")(evaluation(given), 0)
    assert prompts.point_labels.tolist() == [[1, 1, -1]]
    assert prompts.points[0, :2].tolist() == [[20, 10], [21, 10]]


@pytest.mark.parametrize("bad", [{"positive": 0}, {"negative": -1}, {"sampling": "middle"}])
def test_wrong_options_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        Point(**bad)


def test_images_without_objects_have_no_points():
    for given in (batch(sample("a", objects=0)), evaluation(sample("a", objects=0))):
        assert Point(2)(given, 0).points.shape == (0, 2, 2)
