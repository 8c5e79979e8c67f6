"""Region terms against values computed by hand."""

import pytest
import torch

from sam_ft.losses import Dice, Iou, Lovasz, Tversky
from tests.support.losses import ALL, LOGITS, MASK


def test_soft_iou_is_one_minus_intersection_over_union():
    # intersection .8 + .8 = 1.6, union 2.3 + 2 - 1.6 = 2.7
    assert Iou()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 1.6 / 2.7, abs=1e-6)


def test_dice_is_one_minus_twice_the_intersection_over_the_sum_of_areas():
    assert Dice()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 3.2 / 4.3, abs=1e-6)


def test_tversky_weighs_false_negatives_more_than_false_positives():
    # intersection 1.6, false negatives 2 - 1.6 = .4, false positives 2.3 - 1.6 = .7
    by_hand = 1 - 1.6 / (1.6 + 0.7 * 0.4 + 0.3 * 0.7)
    assert Tversky(beta=0.7)(LOGITS, MASK, ALL).item() == pytest.approx(by_hand, abs=1e-6)


def test_tversky_with_equal_weights_is_dice():
    torch.testing.assert_close(Tversky(beta=0.5)(LOGITS, MASK, ALL), Dice()(LOGITS, MASK, ALL))


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_outside_0_to_1_is_refused(messages, beta):
    with messages.raises(ValueError, f"beta={beta};"):
        Tversky(beta=beta)


def test_lovasz_weighs_an_error_by_the_decrease_of_iou():
    # only the background pixel of logit 0 has a hinge error, 1; as a false positive it lowers the IoU from 2/2 to 2/3
    assert Lovasz()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 2 / 3, abs=1e-6)
    # the false negative has error 2 and lowers the IoU from 1 to 1/2; the false positive has error 1, from 1/2 to 1/3
    worse = torch.tensor([[[-1.0, 0.0], [3.0, -3.0]]])
    assert Lovasz()(worse, MASK, ALL).item() == pytest.approx(2 * (1 - 1 / 2) + 1 * (1 / 2 - 1 / 3), abs=1e-6)


def test_lovasz_equals_the_sum_over_sets_of_wrong_pixels_that_defines_it():
    noise = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 6, 6, generator=noise)
    masks, valid = (torch.rand(3, 6, 6, generator=noise) < share for share in (0.3, 0.8))
    for own, mask, inside, value in zip(logits, masks, valid, Lovasz()(logits, masks, valid), strict=True):
        # equation 9 of the paper: errors in falling order, each times the increase of the Jaccard loss by its pixel
        pixels = [(1 - (z if y else -z), y) for z, y in zip(own[inside].tolist(), mask[inside].tolist(), strict=True)]
        total, fn, fp, before = 0.0, 0, 0, 0.0
        for error, is_gt in sorted(pixels, reverse=True):
            fn, fp = fn + is_gt, fp + (not is_gt)
            area = sum(y for _, y in pixels)
            jaccard_loss = 1 - (area - fn) / (area + fp)
            total += max(error, 0.0) * (jaccard_loss - before)
            before = jaccard_loss
        assert value.item() == pytest.approx(total, rel=1e-5)


def test_lovasz_of_a_large_object_has_no_rounding_error():
    # every pixel is wrong with an error of 2, and the weights sum to 1
    masks = (torch.arange(1024) < 512).expand(1, 1024, 1024)
    wrong = torch.where(masks, -1.0, 1.0)
    assert Lovasz()(wrong, masks, torch.ones_like(masks)).item() == pytest.approx(2.0, rel=1e-5)
