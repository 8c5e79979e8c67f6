"""Parts that compare a mask as a whole, against numbers worked out by hand."""

import pytest
import torch

from sam_ft.losses import Dice, Iou, Lovasz, Tversky
from tests.support.losses import ALL, LOGITS, MASK


def test_soft_iou_is_one_minus_overlap_over_union():
    # overlap .8 + .8 = 1.6, union 2.3 + 2 - 1.6 = 2.7
    assert Iou()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 1.6 / 2.7, abs=1e-6)


def test_dice_is_one_minus_twice_overlap_over_areas():
    assert Dice()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 3.2 / 4.3, abs=1e-6)


def test_tversky_counts_a_missed_pixel_more_than_an_extra_one():
    # overlap 1.6, missed 2 - 1.6 = .4, extra 2.3 - 1.6 = .7
    by_hand = 1 - 1.6 / (1.6 + 0.7 * 0.4 + 0.3 * 0.7)
    assert Tversky(beta=0.7)(LOGITS, MASK, ALL).item() == pytest.approx(by_hand, abs=1e-6)


def test_tversky_that_counts_both_alike_is_dice():
    torch.testing.assert_close(Tversky(beta=0.5)(LOGITS, MASK, ALL), Dice()(LOGITS, MASK, ALL))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_tversky_refuses_what_is_no_share(share):
    with pytest.raises(ValueError, match=f"beta={share}; expected a share from 0 to 1"):
        Tversky(beta=share)


def test_lovasz_weighs_an_error_by_the_iou_that_its_pixel_costs():
    # one pixel is not yet surely right: the background one with logit 0 has error 1, and would make 2 of 3 of 2 of 2
    assert Lovasz()(LOGITS, MASK, ALL).item() == pytest.approx(1 - 2 / 3, abs=1e-6)
    # the missed pixel has error 2 and takes the IoU from 1 to 1/2; the extra one has error 1, from there to 1/3
    worse = torch.tensor([[[-1.0, 0.0], [3.0, -3.0]]])
    assert Lovasz()(worse, MASK, ALL).item() == pytest.approx(2 * (1 - 1 / 2) + 1 * (1 / 2 - 1 / 3), abs=1e-6)


def test_lovasz_is_the_sum_over_sets_of_wrong_pixels_that_defines_it():
    noise = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 6, 6, generator=noise)
    masks, valid = (torch.rand(3, 6, 6, generator=noise) < share for share in (0.3, 0.8))
    for own, mask, inside, value in zip(logits, masks, valid, Lovasz()(logits, masks, valid), strict=True):
        # equation 9 of the paper: errors from the largest on, each times what its pixel adds to the Jaccard loss
        pixels = [(1 - (z if y else -z), y) for z, y in zip(own[inside].tolist(), mask[inside].tolist(), strict=True)]
        total, missed, extra, before = 0.0, 0, 0, 0.0
        for error, true in sorted(pixels, reverse=True):
            missed, extra = missed + true, extra + (not true)
            area = sum(y for _, y in pixels)
            jaccard_loss = 1 - (area - missed) / (area + extra)
            total += max(error, 0.0) * (jaccard_loss - before)
            before = jaccard_loss
        assert value.item() == pytest.approx(total, rel=1e-5)


def test_lovasz_of_a_large_object_loses_nothing_in_rounding():
    # all is wrong by the same error of 2, so the sum of the weights is the whole IoU
    masks = (torch.arange(1024) < 512).expand(1, 1024, 1024)
    wrong = torch.where(masks, -1.0, 1.0)
    assert Lovasz()(wrong, masks, torch.ones_like(masks)).item() == pytest.approx(2.0, rel=1e-5)
