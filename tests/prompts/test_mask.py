import pytest
import torch

from sam_ft.prompts import Mask
from tests.support.batches import evaluation, sample
from tests.support.batches import training as batch


def square(height=1024, width=1024):
    given = sample("a", height, width, objects=1)
    given.masks[:] = False
    given.masks[0, 256:512, 256:768] = True
    return given


def test_without_blur_and_noise_it_is_the_ground_truth_in_cells_of_four_pixels():
    logits = Mask(blur=0, noise=0)(batch(square(), side=1024), 0).masks
    assert logits.shape == (1, 1, 256, 256)
    expected = torch.full((256, 256), -8.0)
    expected[64:128, 64:192] = 8
    assert torch.equal(logits[0, 0], expected)


def test_the_blur_has_the_given_standard_deviation():
    logits = Mask(blur=16, noise=0)(batch(square(), side=1024), 0).masks[0, 0]
    # 16 pixels are 4 cells; cell 68 of row 96 lies 4.5 cells inside the left edge: the normal distribution at 1.125
    assert (logits[96, 68] / 8 + 1) / 2 == pytest.approx(0.8697, abs=2e-3)


def test_noise_bends_the_outline_and_leaves_most_of_the_object():
    given = batch(square(), side=1024)
    clean, noisy = (Mask(noise=noise)(given, 0).masks > 0 for noise in (0, 0.2))
    iou = (clean & noisy).sum() / (clean | noisy).sum()
    assert 0.8 < iou < 0.99
    assert not torch.equal(Mask()(given, 1).masks, Mask()(given, 0).masks)


@pytest.mark.parametrize("size", [(1024, 1024), (600, 1000)])
def test_in_evaluation_it_is_the_same_mask_in_the_padded_input(size):
    in_training = Mask(noise=0)(batch(square(*size), side=256), 0).masks > 0
    in_evaluation = Mask(noise=0)(evaluation(square(*size), side=256), 0).masks > 0
    assert (in_training & in_evaluation).sum() / (in_training | in_evaluation).sum() > 0.97


def test_wrong_options_are_refused(messages):
    with messages.raises(ValueError, "blur=-1"):
        Mask(blur=-1)
