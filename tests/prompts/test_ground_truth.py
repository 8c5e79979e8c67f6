import pytest
import torch

from sam_ft.prompts import Comparison, compare_on_grid, ground_truth
from sam_ft.types import Prediction
from tests.support.batches import at, evaluation, sample, training


def everywhere(sign, count=1):
    """A prediction of 16 x 16 logits, all of this sign."""
    return Prediction(torch.full((count, 1, 16, 16), float(sign)), torch.zeros(count, 1))


def test_training_finds_prompts_in_the_input_frame():
    given = training(sample("a", 32, 64), sample("b", 64, 64))
    gt = ground_truth(given)
    assert torch.equal(gt.masks, given.masks)
    assert gt.valid.flatten(1).sum(1).tolist() == [32 * 64] * 3 + [64 * 64] * 3
    assert gt.scale == (1, 1)


def test_an_evaluation_finds_prompts_in_the_original_frame():
    one = sample("a", 60, 128)
    one.ignore = torch.zeros(60, 128, dtype=torch.bool)
    one.ignore[:, 100:] = True
    gt = ground_truth(evaluation(one))
    assert torch.equal(gt.masks, one.masks)
    assert torch.equal(gt.valid, ~one.ignore.expand(3, -1, -1))
    assert gt.scale == (0.5, 0.5)  # 128 x 60 becomes 64 x 30


def test_each_axis_has_its_own_scale():
    gt = ground_truth(evaluation(sample("a", 61, 128)))  # 61 rows become 31
    assert gt.scale == pytest.approx((0.5, 31 / 61))


def test_an_evaluation_batch_of_several_images_is_refused():
    given = evaluation(sample("a"), sample("b"))
    with pytest.raises(ValueError, match="2 images"):
        ground_truth(given)
    assert len(ground_truth(given.image(1)).masks) == 3


def test_errors_on_the_grid_of_the_logits_are_wrong_pixels_of_the_input():
    # 4 x 4 input pixels are one of the logits; the click is at the one that was compared
    given = training(sample("a", 64, 64, objects=2))
    logits = torch.full((2, 1, 16, 16), -1.0)
    logits[1] = 1.0
    found = compare_on_grid(Prediction(logits, torch.zeros(2, 1)), ground_truth(given))
    assert not found.false_positives[0].any()
    assert not found.false_negatives[1].any()
    for index, wrong in enumerate((found.false_negatives[0], found.false_positives[1])):
        points = found.to_input(torch.nonzero(wrong).flip(1))
        assert (at(given.masks, points[None].expand(2, -1, -1))[index] == (index == 0)).all()
    assert found.to_input(torch.tensor([[0, 3]])).tolist() == [[2, 14]]
    assert found.false_negatives[0].sum() == given.masks[0, 2::4, 2::4].sum()


def test_ignored_pixels_and_padding_are_no_errors():
    one = sample("a", 32, 64, objects=1)
    one.ignore = torch.zeros(32, 64, dtype=torch.bool)
    one.ignore[:, 48:] = True
    found = compare_on_grid(everywhere(1), ground_truth(training(one)))
    assert found.false_positives[0, :8, :12].any()
    assert not found.false_positives[0, 8:].any()
    assert not found.false_positives[0, :, 12:].any()


def test_the_iou_counts_valid_pixels_alone():
    predicted = torch.tensor([[[True, True, False, True]]])
    gt = torch.tensor([[[True, False, True, False]]])
    valid = torch.tensor([[[True, True, True, False]]])
    found = Comparison(predicted, gt, valid, (1, 1))
    assert found.iou().tolist() == pytest.approx([1 / 3])
    assert found.iou().dtype == torch.float64
