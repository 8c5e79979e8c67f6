import pickle

import numpy as np
import torch
from pycocotools import mask as rle

from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
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


def test_a_crop_is_the_mask_in_its_tight_box():
    masks, compact = encoded()
    for position, mask in enumerate(masks):
        x0, y0, crop = compact.crop(position)
        x1, y1 = x0 + crop.shape[1], y0 + crop.shape[0]
        assert [x0, y0, x1, y1] == masks_to_boxes(mask[None])[0].tolist()
        assert np.array_equal(crop, mask[y0:y1, x0:x1])
    empty = RunLengthMasks([rle.encode(np.zeros((4, 3), np.uint8, order="F"))["counts"]], (4, 3))
    assert empty.crop(0)[2].shape == (0, 0)


def test_an_encoded_crop_has_the_bytes_that_pycocotools_gives_the_whole_mask():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(rng.integers(1, 7, 2).tolist())
        whole = rng.random(size) < rng.choice([0.0, 0.3, 0.7, 1.0])  # runs that go on in the next column are frequent
        counts = rle.encode(np.asfortranarray(whole, np.uint8))["counts"]
        for x0, y0, crop in [(0, 0, whole), RunLengthMasks([counts], size).crop(0)]:
            assert encode_crop(x0, y0, crop, size) == counts, whole
