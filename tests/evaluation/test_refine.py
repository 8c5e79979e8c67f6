import numpy as np
import torch
from scipy import ndimage

from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.evaluation.refine import largest_component, refine_with_decoder
from sam_ft.task import PromptedSegmentation
from sam_ft.types import dense
from sam_ft.utils.tiles import TileGrid
from tests.evaluation.test_tiled_maps import smooth_image
from tests.support.tiny import tiny_sam


def refined(ids, scores, min_area=1, image=None):
    image = smooth_image(*ids.shape) if image is None else image
    task = PromptedSegmentation(tiny_sam())
    grid = TileGrid(ids.shape, max(ids.shape))
    masks, own = refine_with_decoder(task, ArrayWindows(image), grid, compress_ids(ids), torch.tensor(scores), min_area)
    return dense(masks).numpy(), own


def grid_of_ids():
    ids = np.zeros((60, 80), np.int32)
    for number in range(12):
        row, column = divmod(number, 4)
        ids[20 * row + 2 : 20 * row + 17, 20 * column + 2 : 20 * column + 17] = number + 1
    return ids


def test_masks_do_not_overlap_and_each_is_connected():
    masks, scores = refined(grid_of_ids(), [0.9 - 0.05 * number for number in range(12)])
    assert 1 <= len(masks) == len(scores) <= 12
    assert masks.sum(0).max() == 1
    assert all(ndimage.label(mask)[1] == 1 for mask in masks)


def test_the_better_of_two_equal_boxes_stays():
    ids = np.zeros((60, 80), np.int32)
    ids[10:40, 10:50:2], ids[10:40, 11:50:2] = 1, 2  # boxes that differ by one column
    both, scores = refined(ids, [0.5, 0.9])
    second, alone = refined(np.where(ids == 2, 1, 0).astype(np.int32), [0.9])
    assert len(both) == 1
    assert np.array_equal(both[0], second[0])
    assert torch.allclose(scores, alone)


def test_small_masks_and_no_instances():
    ids = grid_of_ids()
    assert len(refined(ids, [0.9] * 12, min_area=10_000)[0]) == 0
    masks, scores = refined(np.zeros_like(ids), [])
    assert (len(masks), len(scores)) == (0, 0)


def test_the_largest_component():
    mask = np.zeros((6, 9), bool)
    mask[0, :3] = mask[2:5, 4:6] = mask[5, 8] = True
    expected = np.zeros_like(mask)
    expected[2:5, 4:6] = True
    assert np.array_equal(largest_component(mask), expected)
    assert np.array_equal(largest_component(expected), expected)
