import pytest
import torch

from sam_ft.prompts import Box
from tests.support.batches import sample
from tests.support.batches import training as batch


def test_without_jitter_the_box_is_tight():
    given = batch(sample("a", 64, 64))
    assert Box()(given, seed=0).boxes[:2].tolist() == [[10, 5, 40, 25], [12, 6, 44, 28]]


def test_scale_grows_the_box_round_its_center_up_to_the_border():
    given = batch(sample("a", 64, 64, objects=1))
    assert Box(scale=1.2)(given, seed=0).boxes.tolist() == [[7, 3, 43, 27]]
    assert Box(scale=10)(given, seed=0).boxes.tolist() == [[0, 0, 64, 64]]


def test_jittered_box_stays_inside_the_image():
    given = batch(sample("wide", 20, 100, 8), sample("high", 100, 20, 8))
    for seed in range(30):
        x0, y0, x1, y1 = Box(jitter=2.0, max_jitter=1000)(given, seed).boxes.T
        heights, widths = torch.tensor(given.sizes)[given.image_index].T
        assert (x0 >= 0).all()
        assert (y0 >= 0).all()
        assert (x1 <= widths).all()
        assert (y1 <= heights).all()
        assert (x1 - x0 >= 1 - 1e-5).all()
        assert (y1 - y0 >= 1 - 1e-5).all()


def test_jitter_has_the_standard_deviation_of_a_tenth_of_the_side_along_both_axes():
    given = batch(*[sample(str(i), 64, 64, objects=1) for i in range(500)])  # boxes of 30 x 20
    shift = Box(jitter=0.1, max_jitter=1000)(given, seed=0).boxes - given.boxes
    assert shift.std(0).tolist() == pytest.approx([3, 2, 3, 2], rel=0.15)
    assert shift.mean(0).abs().max() < 0.4


def test_no_side_moves_further_than_twenty_pixels_of_a_1024_input():
    given = batch(*[sample(str(i), 64, 64, objects=1) for i in range(200)])
    shift = (Box(jitter=0.5)(given, seed=0).boxes - given.boxes).abs()
    assert shift.max() == pytest.approx(20 * 64 / 1024, abs=1e-4)


def test_jitter_depends_on_the_seed_the_name_and_the_object_alone():
    a, b = sample("a", objects=40), sample("b")
    box = Box(jitter=0.1)
    together = box(batch(a, b), seed=1).boxes
    assert torch.equal(box(batch(b, a), seed=1).boxes, torch.cat([together[40:], together[:40]]))
    assert torch.equal(box(batch(b), seed=1).boxes, together[40:])
    for keep in (torch.tensor([7]), torch.tensor([1, 3]), torch.arange(5, 25)):
        assert torch.equal(box(batch(a.select(keep)), seed=1).boxes, together[keep])
    assert not torch.equal(box(batch(a, b), seed=2).boxes, together)
    assert not torch.equal(box(batch(sample("c")), seed=1).boxes, together[40:])


@pytest.mark.parametrize("box", [Box(), Box(jitter=0.1), Box(scale=1.5)])
def test_images_without_objects_have_no_boxes(box):
    for given in (batch(), batch(sample("a", objects=0)), batch(sample("a", objects=0), sample("b"))):
        assert box(given, seed=0).boxes.shape == (given.num_objects, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 500)])
def test_an_image_of_one_pixel_has_a_box_of_one_pixel(size):
    given = sample("dot", *size, objects=1)
    given.masks[:] = True
    boxes = Box(jitter=0.1)(batch(given), seed=0).boxes
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 1 - 1e-5).all()
    assert boxes.max() <= 64


@pytest.mark.parametrize("options", [{"jitter": -0.1}, {"max_jitter": -1}, {"scale": 0}])
def test_options_out_of_range_are_refused(messages, options):
    with messages.raises(ValueError, *(f"{name}={value}" for name, value in options.items())):
        Box(**options)
