from dataclasses import replace

import pytest
import torch

from sam_ft.data.collate import collate
from sam_ft.data.transforms import resize_longest_side
from sam_ft.types import Features
from tests.support.batches import evaluation, sample, training

A, B, NONE = sample("a", 32, 64, objects=3), sample("b", 64, 48, objects=2), sample("none", 64, 64, objects=0)


def test_objects_of_all_images_lie_on_one_axis():
    batch = training(A, NONE, B)
    assert (batch.num_objects, batch.image_size) == (5, 64)
    assert batch.image_index.tolist() == [0, 0, 0, 2, 2]
    assert batch.object_index.tolist() == [0, 1, 2, 0, 1]
    assert batch.names == ["a", "none", "b"]
    assert batch.sizes == [(32, 64), (64, 64), (64, 48)]
    assert [batch.objects_of(image).tolist() for image in range(3)] == [[0, 1, 2], [], [3, 4]]
    assert batch.object_sizes().tolist() == [[32, 64]] * 3 + [[64, 48]] * 2


def test_images_and_masks_are_padded_with_zeros():
    white = sample("white", 32, 64, objects=1)
    white.image[:], white.masks[:] = 255, True
    batch = training(white)
    assert batch.images[0].float().mean() == 255 / 2
    assert batch.masks[0, :32].all()
    assert not batch.masks[0, 32:].any()
    assert torch.equal(batch.valid_pixels(), batch.masks)


def test_no_images_make_an_empty_batch():
    batch = collate([], 64)
    assert (batch.num_objects, batch.image_size) == (0, 64)
    assert batch.images.shape == (0, 3, 64, 64)
    assert batch.boxes.shape == (0, 4)
    assert batch.valid_pixels().shape == (0, 64, 64)


def test_an_evaluation_keeps_masks_in_the_original_frame_alone():
    batch = evaluation(A, B)
    assert batch.masks.shape == (5, 0, 0)
    assert batch.image_size == 64
    assert [original.masks.shape for original in batch.originals] == [(3, 32, 64), (2, 64, 48)]


def test_a_sample_that_was_not_resized_is_refused():
    with pytest.raises(ValueError, match="a has no boxes"):
        collate([A], 64)


def test_a_head_gets_pixels_beside_features_and_its_maps():
    samples = [resize_longest_side(one, 64) for one in (A, B)]
    samples = [replace(one, maps=torch.full((3, 16, 16), float(number))) for number, one in enumerate(samples)]
    features = Features((torch.rand(2, 256, 4, 4),))
    batch = collate(samples, 64, features, keep_pixels=True)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.maps[:, 0, 0, 0].tolist() == [0, 1]
    assert batch.image(1).maps[:, 0, 0, 0].tolist() == [1]
    assert collate(samples, 64, features).images is None


def test_extremes_are_those_of_tiles_and_unknown_for_whole_images():
    samples = [resize_longest_side(sample(name), 64) for name in "ab"]
    assert collate(samples, 64).extremes is None
    tile = replace(samples[1], extremes=torch.tensor([3.0, 200]))
    batch = collate([samples[0], tile], 64)
    assert batch.extremes.isnan().tolist() == [[True, True], [False, False]]
    assert batch.extremes[1].tolist() == batch.image(1).extremes[0].tolist() == [3, 200]
