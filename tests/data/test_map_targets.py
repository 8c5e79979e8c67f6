from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_ft.data.io.id_masks import IdLayers
from sam_ft.data.map_targets import channel_map, head_targets, instance_targets, paint, semantic_targets, valid_cells
from sam_ft.data.transforms import dihedral
from sam_ft.instances.maps import instance_maps
from sam_ft.types import dense
from tests.support.batches import sample
from tests.support.masks import rows


def compact(ids):
    layers = IdLayers()
    layers.add(np.array(ids))
    return layers.masks()


def test_the_smaller_object_lies_on_top():
    masks = torch.cat([rows("##.", "#.."), rows("###", "###")])
    assert paint(masks, (2, 3)).tolist() == [[1, 1, 2], [1, 2, 2]]
    assert paint(masks.flip(0), (2, 3)).tolist() == [[2, 2, 1], [2, 1, 1]]


@pytest.mark.parametrize("ids", [[[0, 9, 9], [3, 0, 65535]], [[0, 0, 0], [0, 0, 0]], [[2, 2, 2], [1, 1, 1]]])
def test_id_maps_are_painted_as_their_masks(ids):
    masks = compact(np.array(ids, np.uint16))
    assert np.array_equal(paint(masks, (2, 3)), paint(dense(masks), (2, 3)))


def test_a_selection_of_an_id_map_leaves_the_others_out():
    masks = compact(np.array([[4, 7], [9, 0]], np.uint16))
    some = replace(masks, layer_of=masks.layer_of[[2, 0]], ids=masks.ids[[2, 0]])
    assert paint(some, (2, 2)).tolist() == [[2, 0], [1, 0]]


def test_targets_have_the_maps_of_the_image_and_nan_in_the_padding():
    one = sample("one", 64, 32, objects=2)
    maps = instance_targets(one, view=0, image_size=64, side=64)
    assert torch.equal(maps[:, :, :32], torch.from_numpy(instance_maps(paint(one.masks, one.size))))
    assert maps[:, :, 32:].isnan().all()


@pytest.mark.parametrize("view", range(8))
def test_targets_follow_the_view(view):
    one = sample("one", 64, 64, objects=2)
    ids = dihedral(torch.from_numpy(paint(one.masks, one.size)), view).numpy()
    assert np.array_equal(instance_targets(one, view, image_size=64, side=64), instance_maps(ids))


def test_a_cell_is_the_mean_of_its_pixels():
    one = sample("one", 64, 64, objects=1)
    fine, coarse = (instance_targets(one, 0, image_size=64, side=side) for side in (64, 16))
    assert torch.allclose(coarse, fine.reshape(3, 16, 4, 16, 4).mean(dim=(2, 4)))


def test_a_cell_with_an_ignored_pixel_or_padding_does_not_count():
    one = sample("one", 64, 32, objects=1)
    one.ignore = torch.zeros(64, 32, dtype=torch.bool)
    one.ignore[5, 9] = True
    valid = valid_cells(one, view=0, image_size=64, side=16)
    assert valid.shape == (16, 16)
    assert torch.nonzero(~valid[:, :8]).tolist() == [[1, 2]]
    assert not valid[:, 8:].any()


def classes_of(*labels):
    """An image of 8 x 4 pixels whose objects are 8 x 4, 4 x 2 and 1 x 1 pixels, the smaller ones inside."""
    one = sample("one", 8, 4, objects=0)
    one.masks = torch.zeros(3, 8, 4, dtype=torch.bool)
    one.masks[0] = True
    one.masks[1, :4, :2] = True
    one.masks[2, 0, 0] = True
    one.labels = torch.tensor(labels)
    one.object_index = torch.arange(3)
    return one


def test_channels_are_positions_of_labels_and_the_smaller_object_counts():
    one = classes_of(200, 1, 5)
    found = channel_map(one.masks, one.labels, one.size, (1, 5, 200))
    assert found[0].tolist() == [2, 1, 3, 3]
    assert found[4].tolist() == [3, 3, 3, 3]
    assert channel_map(one.masks, one.labels, one.size, (1, 200))[0].tolist() == [-1, 1, 2, 2]
    assert (channel_map(one.masks, one.labels, one.size, ()) == 1).all()
    assert not channel_map(one.masks[:0], one.labels[:0], one.size, (1, 5)).any()


def test_a_cell_has_the_class_of_most_of_its_pixels():
    one = classes_of(200, 1, 5)
    maps = semantic_targets(one, 0, image_size=8, side=4, labels=(1, 5, 200))
    assert maps.shape == (1, 4, 4)
    assert maps[0, :, :2].tolist() == [[1, 3], [1, 3], [3, 3], [3, 3]]
    assert maps[0, :, 2:].isnan().all()  # padding


def test_ignored_pixels_and_other_labels_do_not_count():
    one = classes_of(200, 1, 5)
    one.ignore = torch.zeros(8, 4, dtype=torch.bool)
    one.ignore[7, 3] = True
    maps = semantic_targets(one, 0, image_size=8, side=4, labels=(1, 5))
    assert maps[0, :, 0].tolist() == pytest.approx([1, 1, float("nan"), float("nan")], nan_ok=True)
    maps = semantic_targets(one, 0, image_size=8, side=4, labels=(1, 5, 200))
    assert maps[0, 2:, 1].tolist() == pytest.approx([3, float("nan")], nan_ok=True)


@pytest.mark.parametrize("view", range(8))
def test_classes_follow_the_view(view):
    one = classes_of(200, 1, 5)
    ids = torch.from_numpy(channel_map(one.masks, one.labels, one.size, (1, 5, 200)))
    turned = dihedral(ids, view)
    maps = semantic_targets(one, view, image_size=8, side=8, labels=(1, 5, 200))[0]
    assert torch.equal(maps[: turned.shape[0], : turned.shape[1]], turned.float())


def test_a_head_with_labels_learns_classes_and_one_without_learns_instances():
    one = classes_of(200, 1, 5)
    known = {"view": 0, "image_size": 8, "side": 8}
    instances, classes = (head_targets(one, **known, labels=labels) for labels in (None, ()))
    assert instances.shape == (3, 8, 8)
    assert classes[0, :, :4].eq(1).all()
