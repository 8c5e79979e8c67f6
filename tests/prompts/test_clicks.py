import pytest
import torch

from sam_ft.prompts import Box, Clicks, Comparison, Iterative, Point
from sam_ft.prompts.clicks import center_clicks
from sam_ft.types import Prediction
from tests.support.batches import at, sample
from tests.support.batches import training as batch


def drawn(*pictures):
    return torch.tensor([[[cell == "#" for cell in row] for row in picture] for picture in pictures])


def errors(false_negatives, false_positives):
    """A comparison with these errors, which must not overlap."""
    return Comparison(false_positives, false_negatives, torch.ones_like(false_negatives), (1, 1))


EMPTY = ["........"] * 8
BAR = ["########", "########", "........", "........", "........", "........", "........", "........"]
BLOCK = ["........", "........", ".#####..", ".#####..", ".#####..", ".#####..", ".#####..", "........"]


def test_the_click_is_deepest_inside_the_larger_error():
    pixels, labels = center_clicks(errors(drawn(BLOCK, EMPTY, BAR, EMPTY), drawn(BAR, BAR, BLOCK, EMPTY)))
    # the block is 5 wide: its middle is 3 away from the outside. The bar is 2 high at the border: 1 away, twice
    assert pixels[:3].tolist() == [[3, 4], [0, 0], [3, 4]]
    assert labels.tolist() == [1, 0, 0, -1]


def test_a_random_click_is_an_object_point_on_a_false_negative_and_else_a_background_point():
    given = batch(*[sample(str(index), 64, 64, objects=1) for index in range(200)])
    negatives, positives = (drawn(picture).expand(200, -1, -1) for picture in (BAR, BLOCK))
    clicks = Clicks(Box(), sampling="uniform")
    prediction = Prediction(torch.zeros(200, 1, 16, 16), torch.zeros(200, 1))
    later = clicks.next(given, 0, 1, clicks(given, 0), prediction, errors(negatives, positives))
    on_object = later.point_labels[:, 0] == 1
    assert torch.equal(at(negatives, later.points)[:, 0], on_object)
    assert torch.equal(at(positives, later.points)[:, 0], ~on_object)
    assert float(on_object.float().mean()) == pytest.approx(16 / 41, abs=0.09)  # 16 false negatives, 25 false positives
    assert torch.equal(later.masks, prediction.logits)
    assert torch.equal(later.boxes, given.boxes)


@pytest.mark.parametrize("sampling", ["uniform", "center"])
def test_where_nothing_is_wrong_there_is_padding(sampling):
    given, clicks = batch(sample("a", 64, 64, objects=1)), Clicks(sampling=sampling)
    prediction = Prediction(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1))
    later = clicks.next(given, 0, 1, clicks(given, 0), prediction, errors(drawn(EMPTY), drawn(EMPTY)))
    assert later.point_labels.tolist() == [[1, -1]]


def test_eleven_rounds_are_one_prompt_eight_clicks_and_two_rounds_with_the_last_logits_alone():
    seen = set()
    for seed in range(50):
        (clicks, _), *_ = Iterative().split(batch(sample("a")), seed)
        alone = clicks.mask_only_round_indices(seed)
        assert len(alone) == 2
        assert max(alone) == 10
        seen |= alone
    assert seen == set(range(1, 11))


def test_examples_have_the_first_prompt_and_every_kind_of_click():
    given = batch(sample("a", 64, 64, objects=1))
    first, *later = Clicks(Box(), rounds=2).examples(given)
    assert first.points is first.masks is None
    assert sorted(prompts.point_labels.item() for prompts in later) == [-1, 0, 1]
    assert all(prompts.boxes is not None and prompts.masks is not None for prompts in later)
    assert len(list(Clicks(Point(), rounds=1).examples(given))) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {"rounds": 0},
        {"rounds": 2, "mask_only_rounds": 2},
        {"sampling": "middle"},
        {"first": Iterative()},
        {"first": Clicks(rounds=2)},
    ],
)
def test_wrong_options_are_refused(messages, bad):
    with messages.raises(ValueError, list(bad)[-1]):
        Clicks(**bad)
