import numpy as np
import pytest
import torch

from sam_ft.data.io.id_masks import IdLayers
from sam_ft.data.mask_crops import crop_masks, select_masks, union_of_masks
from sam_ft.types import dense
from sam_ft.writers.instances import compress_masks
from tests.support.masks import random_pairs

SIZE = (60, 80)
MASKS = random_pairs(9, SIZE)[1]
MASKS = MASKS[MASKS.any(dim=2).any(dim=1)]
WINDOWS = [
    (slice(0, 60), slice(0, 80)),
    (slice(10, 40), slice(30, 70)),
    (slice(59, 60), slice(0, 80)),
    (slice(3, 4),) * 2,
]


def id_masks(masks):
    layers = IdLayers()
    for mask in masks.numpy():
        layers.add(np.where(mask, 300, 0).astype(np.uint16))  # they overlap, so there are several maps
    return layers.masks()


FORMS = {"dense": lambda masks: masks, "ids": id_masks, "runs": lambda masks: compress_masks(masks, SIZE)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", WINDOWS)
def test_crops_of_every_form_are_the_pixels_in_the_window(form, window):
    cropped, shares = crop_masks(FORMS[form](MASKS), window)
    expected = MASKS[:, window[0], window[1]]
    assert torch.equal(dense(cropped), expected)
    assert torch.allclose(shares, expected.sum(dim=(1, 2)).double() / MASKS.sum(dim=(1, 2)))
    assert type(cropped) is type(FORMS[form](MASKS))  # compact forms stay compact
    picked = select_masks(cropped, torch.tensor([4, 1]))
    assert type(picked) is type(cropped)
    assert torch.equal(dense(picked), expected[[4, 1]])
    assert torch.equal(union_of_masks(cropped, expected.shape[1:]), expected.any(dim=0))


@pytest.mark.parametrize("form", FORMS)
def test_no_masks_have_no_crops(form):
    masks = select_masks(FORMS[form](MASKS), torch.zeros(0, dtype=torch.int64))
    cropped, shares = crop_masks(masks, WINDOWS[1])
    assert len(cropped) == len(shares) == 0
    assert not union_of_masks(cropped, (30, 40)).any()
