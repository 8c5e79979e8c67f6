import pickle

import numpy as np
import torch
from pycocotools import mask as rle

from sam_ft.data.sources.run_lengths import RunLengthMasks
from sam_ft.types import Original, dense
from sam_ft.utils.geometry import masks_to_boxes
from tests.support.masks import random_pairs


def encoded():
    """Six masks that overlap, and their run lengths."""
    masks = torch.cat(random_pairs(3, (20, 30)))
    return masks, RunLengthMasks([rle.encode(np.asfortranarray(m, np.uint8))["counts"] for m in masks], (20, 30))


def test_chosen_masks_are_decoded():
    masks, compact = encoded()
    assert len(compact) == 6
    assert torch.equal(dense(compact), masks)
    order = torch.tensor([4, 0])
    assert torch.equal(compact[order], masks[order])
    assert compact[order[:0]].shape == (0, 20, 30)


def test_boxes_are_those_of_the_masks():
    masks, compact = encoded()
    assert torch.equal(compact.boxes(), masks_to_boxes(masks))
    assert RunLengthMasks([], (20, 30)).boxes().shape == (0, 4)
    # Down the columns of 4 rows: no pixel but a run of 0, one pixel, two columns in one run, the whole image.
    for runs in ([5, 0, 7], [5, 1, 2, 0, 4], [3, 2, 7], [0, 12]):
        one = RunLengthMasks([rle.frPyObjects({"size": [4, 3], "counts": runs}, 4, 3)["counts"]], (4, 3))
        assert torch.equal(one.boxes(), masks_to_boxes(dense(one))), runs


def test_the_union_needs_no_masks():
    masks, compact = encoded()
    assert np.array_equal(compact.union(), masks.any(0))
    assert not RunLengthMasks([], (20, 30)).union().any()


def test_masks_travel_to_workers_and_devices():
    masks, compact = encoded()
    assert torch.equal(dense(pickle.loads(pickle.dumps(compact))), masks)
    moved = Original(compact, None, (20, 30)).to("meta").masks
    assert dense(moved).device.type == "meta"
    assert torch.equal(dense(compact), masks)
