import pytest
import torch

from sam_ft.prompts import Point
from tests.support.batches import at, evaluation, sample
from tests.support.batches import training as batch
from tests.support.blobs import Blobs


def test_random_points_lie_on_the_object_and_beside_it():
    given = batch(*(Blobs([5, 3])[index] for index in (0, 1)))
    for seed in range(20):
        prompts = Point(positive=3, negative=2)(given, seed)
        assert prompts.point_labels.tolist() == [[1, 1, 1, 0, 0]] * 8
        assert at(given.masks, prompts.points).tolist() == [[True] * 3 + [False] * 2] * 8
        distance = (prompts.points[:, 3:] - given.boxes.reshape(-1, 2, 2).mean(1)[:, None]).abs()
        sides = given.boxes[:, 2:] - given.boxes[:, :2]
        assert (distance <= 0.75 * sides[:, None] + 1).all()  # in the box grown by a half


def test_an_object_that_fills_its_image_has_padding_for_background_points():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = True
    prompts = Point(positive=1, negative=1)(batch(given), 0)
    assert prompts.point_labels.tolist() == [[1, -1]]


def test_points_of_an_evaluation_are_pixels_of_the_original_image():
    given = sample("a", 80, 128, objects=1)
    given.masks[:] = False
    given.masks[0, 10:15, 20:29] = True  # 5 high, 9 wide: row 12 is deepest, from column 22
    prompts = Point(sampling="center")(evaluation(given), 0)
    assert (prompts.points * 2).tolist() == [[[22, 12]]]  # input side 64, half of the original
    random = Point(3)(evaluation(given), 0).points * 2
    assert at(given.masks, random).all()


def test_a_second_center_stays_away_from_the_first():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = False
    given.masks[0, 10:15, 20:41] = True  # 21 wide: the first point is at the left, its circle of 3 is taken
    points = Point(2, sampling="center")(evaluation(given), 0).points[0].tolist()
    assert points == [[22, 12], [25, 12]]


def test_points_depend_neither_on_the_other_images_nor_on_the_other_objects():
    samples = [Blobs([5, 3])[index] for index in (0, 1)]
    together = evaluation(*samples)
    for index, alone in enumerate(samples):
        points = Point(2, 1)(together.image(index), 3).points
        assert torch.equal(Point(2, 1)(evaluation(alone), 3).points, points)
        one = alone.select(torch.tensor([2]))
        assert torch.equal(Point(2, 1)(evaluation(one), 3).points, points[2:3])
    in_training = Point(2, 1)(batch(*samples), 3).points
    assert torch.equal(Point(2, 1)(batch(samples[1]), 3).points, in_training[5:])


def test_where_an_object_has_fewer_pixels_than_points_there_is_padding():
    given = sample("a", 64, 64, objects=1)
    given.masks[:] = False
    given.masks[0, 10, 20:22] = True
    prompts = Point(3, sampling="center")(evaluation(given), 0)
    assert prompts.point_labels.tolist() == [[1, 1, -1]]
    assert prompts.points[0, :2].tolist() == [[20, 10], [21, 10]]


@pytest.mark.parametrize("bad", [{"positive": 0}, {"negative": -1}, {"sampling": "middle"}])
def test_wrong_options_are_refused(messages, bad):
    with messages.raises(ValueError, *(f"{name}={value}" for name, value in bad.items())):
        Point(**bad)


def test_images_without_objects_have_no_points():
    for given in (batch(sample("a", objects=0)), evaluation(sample("a", objects=0))):
        assert Point(2)(given, 0).points.shape == (0, 2, 2)
