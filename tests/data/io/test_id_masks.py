"""Objects as values of id maps give the same masks as one dense mask for each."""

import pickle

import numpy as np
import pytest
import torch

from sam_ft.data.io.id_masks import IdLayers
from sam_ft.types import Original, dense
from sam_ft.utils.geometry import masks_to_boxes
from tests.support.masks import rows


def layers_of(*maps):
    layers = IdLayers()
    found = [layers.add(np.array(ids)).tolist() for ids in maps]
    return layers, found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_each_id_but_zero_is_a_mask(dtype):
    high = min(np.iinfo(dtype).max, 65535)  # of uint16 the value has the bits of -1
    layers, found = layers_of(np.array([[0, 7, 7], [high, 0, 7]], dtype))
    masks = layers.masks()
    assert found == [[7, high]]
    assert len(masks) == 2
    assert torch.equal(dense(masks), torch.cat([rows(".##", "..#"), rows("...", "#..")]))
    assert torch.equal(masks[torch.tensor([1])], rows("...", "#.."))
    assert masks[torch.tensor([], dtype=torch.int64)].shape == (0, 2, 3)


def test_objects_of_further_files_share_a_map_where_they_do_not_overlap():
    ones = [np.eye(300, dtype=np.uint8)[number][None] for number in range(300)]  # 300 files with one pixel each
    layers, _ = layers_of(*ones)
    masks = layers.masks()
    assert len(masks.layers) == 1
    assert torch.equal(dense(masks), torch.eye(300, dtype=torch.bool)[:, None])


def test_objects_that_overlap_stay_whole():
    layers, found = layers_of([[1, 1, 0, 0]], [[0, 5, 9, 0]], [[0, 0, 0, 3]], [[1, 0, 0, 0]])
    masks = layers.masks()
    assert found == [[1], [5, 9], [3], [1]]
    assert len(masks.layers) == 2
    expected = ["##..", ".#..", "..#.", "...#", "#..."]
    assert torch.equal(dense(masks), torch.cat([rows(line) for line in expected]))
    order = torch.tensor([4, 0, 2])
    assert torch.equal(masks[order], dense(masks)[order])
    assert torch.equal(masks.boxes(), masks_to_boxes(dense(masks)))
    assert layers.union().tolist() == [[True, True, True, True]]


@pytest.mark.parametrize("height", [1, 2, 40])
def test_boxes_are_those_of_the_masks(height):
    ids = np.random.default_rng(0).integers(0, 60, (height, 50)).astype(np.uint16) * 1000  # scattered pixels
    ids[0, 0] = ids[-1, -1] = 59000
    masks = layers_of(ids)[0].masks()
    assert torch.equal(masks.boxes(), masks_to_boxes(dense(masks)))
    assert layers_of(np.zeros((height, 3), np.uint8))[0].masks().boxes().shape == (0, 4)


def test_a_file_without_objects_adds_none():
    layers, found = layers_of([[0, 0]], [[2, 0]], [[0, 0]])
    assert found == [[], [2], []]
    assert torch.equal(dense(layers.masks()), rows("#."))
    assert layers.union().tolist() == [[True, False]]


def test_masks_travel_to_workers_and_devices():
    masks = layers_of([[1, 1, 0]], [[0, 1, 1]])[0].masks()
    assert torch.equal(dense(pickle.loads(pickle.dumps(masks))), dense(masks))
    moved = Original(masks, None, (1, 3)).to("meta").masks
    assert {tensor.device.type for tensor in (*moved.layers, moved.layer_of, moved.ids)} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_on_a_gpu_are_those_of_the_cpu():
    for maps in ([[[1, 40000, 0]]], [[[1, 300, 0]], [[0, 1, 1]]]):
        masks = layers_of(*maps)[0].masks()
        pinned = Original(masks, None, (1, 3)).pin_memory().masks
        assert all(layer.is_pinned() for layer in pinned.layers)
        on_gpu = Original(pinned, None, (1, 3)).to("cuda").masks
        assert torch.equal(dense(on_gpu).cpu(), dense(masks))
        assert dense(on_gpu).device.type == "cuda"
