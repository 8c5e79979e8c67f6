from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from sam_ft.data.collate import collate
from sam_ft.data.io.id_masks import IdLayers, IdMasks
from sam_ft.data.transforms import Augment, QuarterTurn, dihedral, resize_for_evaluation, resize_longest_side
from sam_ft.types import Sample, dense
from tests.support.batches import evaluation, training
from tests.support.blobs import Blobs

FLIPS = (v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5), QuarterTurn(0.75))


def sample(height=6, width=9, objects=2, seed=0):
    """A sample whose masks can be found again in its image: object i is where the red channel is i + 1."""
    rng = np.random.default_rng(seed)
    ids = torch.from_numpy(rng.integers(0, objects + 1, (height, width)))
    ids.flatten()[:objects] = torch.arange(1, objects + 1)
    image = torch.stack([ids, torch.from_numpy(rng.integers(0, 256, (height, width))), ids]).to(torch.uint8)
    masks = ids == torch.arange(1, objects + 1)[:, None, None]
    count = torch.arange(objects)
    return Sample(image, masks, count + 1, "name", (height, width), count)


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (33, 100), (1, 1), (1, 500), (300, 200)])
def test_the_image_is_resized_as_sam_predictor_does(size):
    from segment_anything.utils.transforms import ResizeLongestSide as Official

    given = sample(*size, objects=0)
    resized = resize_longest_side(given, 64).image
    assert torch.equal(resize_for_evaluation(given, 64).image, resized)
    if min(size) > 1:  # the official one rounds the short side of 1 x 500 to 0 and fails
        assert torch.equal(
            resized.permute(1, 2, 0), torch.from_numpy(Official(64).apply_image(given.image.permute(1, 2, 0).numpy()))
        )
    assert max(resized.shape) == 64
    assert min(resized.shape) >= 1


def test_boxes_come_from_the_masks_before_the_resize():
    given = sample(8, 8, objects=1)
    given.masks[:] = False
    given.masks[0, 2:5, 1:4] = True
    resized = resize_longest_side(given, 4)
    assert resized.boxes.tolist() == [[0.5, 1, 2, 2.5]]
    assert resized.masks.shape == (1, 4, 4)


def test_an_object_that_vanishes_is_dropped_in_training_and_kept_in_evaluation():
    given = sample(8, 8, objects=2)
    given.masks[:] = False
    given.masks[0, 0, 0] = True  # centers of the 2 x 2 result are at 2 and 6: this pixel is lost
    given.masks[1, 4:] = True
    resized, whole = resize_longest_side(given, 2), resize_for_evaluation(given, 2)
    assert resized.object_index.tolist() == [1]
    assert len(resized.boxes) == 1
    assert whole.object_index.tolist() == [0, 1]
    assert whole.boxes[0].tolist() == [0, 0, 0.25, 0.25]
    assert whole.masks.shape == (2, 0, 0)


def test_a_sample_without_pixels_is_resized_to_the_same_boxes():
    given = Blobs([3])[0]
    annotations = Blobs([3]).annotations(0)
    for resize in (resize_longest_side, resize_for_evaluation):
        resized, whole = resize(annotations, 32), resize(given, 32)
        assert resized.image.numel() == 0
        assert resized.size == whole.size
        assert torch.equal(resized.boxes, whole.boxes)
        assert torch.equal(resized.masks, whole.masks)


@pytest.mark.parametrize("objects", [0, 1, 300])
def test_images_of_different_sizes_and_any_number_of_objects_make_one_batch(objects):
    resized = [resize_longest_side(sample(20, 40, objects), 32), resize_longest_side(sample(31, 17, 2), 32)]
    batch = collate(resized, 32)
    assert batch.images.shape == (2, 3, 32, 32)
    assert batch.num_objects == len(batch.boxes) == len(batch.masks) == len(resized[0].masks) + 2
    assert (len(resized[0].masks) < objects) == (objects == 300)
    assert batch.sizes == [(16, 32), (32, 18)]


def test_masks_move_with_the_image():
    turned = set()
    for seed in range(40):
        moved = Augment(FLIPS)(sample(6, 9, objects=3), seed)
        for object_id, mask in zip(moved.object_index, moved.masks, strict=True):
            assert torch.equal(mask, moved.image[0] == object_id + 1)
        turned.add((moved.image.shape, moved.image.flatten()[0].item(), moved.image.flatten()[-1].item()))
    assert len(turned) >= 4


def test_the_same_seed_gives_the_same_result_and_leaves_the_random_state_of_torch():
    augment = Augment([*FLIPS, v2.ColorJitter(0.5, 0.5)])
    before = torch.random.get_rng_state()
    first = augment(sample(), seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    again, other = augment(sample(), seed=3), [augment(sample(), seed=s).image for s in range(4, 10)]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.masks, again.masks)
    assert any(image.shape != first.image.shape or not torch.equal(image, first.image) for image in other)


def test_color_changes_touch_the_image_only():
    given = sample()
    changed = Augment([v2.ColorJitter(brightness=(2, 2))])(given, seed=0)
    assert torch.equal(changed.masks, given.masks)
    assert not torch.equal(changed.image, given.image)
    assert changed.image.dtype == torch.uint8


def test_an_object_that_leaves_the_image_is_dropped():
    given = sample(4, 4, objects=2)
    given.masks[:] = False
    given.masks[0, 0, 0] = given.masks[1, 1:3, 1:3] = True
    assert Augment([v2.CenterCrop(2)])(given, seed=0).object_index.tolist() == [1]


@pytest.mark.parametrize("transform", [*FLIPS, v2.RandomRotation(30), v2.RandomResizedCrop(5), v2.RandomAffine(10)])
def test_an_image_without_objects_is_augmented(transform):
    moved = Augment([transform])(sample(objects=0), seed=1)
    assert moved.masks.shape == (0, *moved.image.shape[-2:])
    assert moved.masks.dtype == torch.bool


@pytest.mark.parametrize("transform", [v2.RandomRotation((30, 30)), v2.RandomAffine(10), v2.ElasticTransform()])
def test_masks_stay_masks_under_any_geometry(transform):
    moved = Augment([transform])(sample(50, 50), seed=1)
    assert moved.masks.dtype == torch.bool
    assert type(moved.masks) is type(moved.image) is torch.Tensor
    assert moved.masks.shape[-2:] == moved.image.shape[-2:]


def test_no_transforms_change_nothing():
    given = sample()
    assert Augment([])(given, seed=0) is given


def test_quarter_turns_reach_all_four_directions_equally_often():
    corners = [
        Augment([QuarterTurn()])(sample(2, 2, objects=4), seed).image[0].flatten().tolist() for seed in range(200)
    ]
    counts = [corners.count(c) for c in ([1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2])]
    assert sum(counts) == 200
    assert min(counts) > 30


def test_a_quarter_turn_of_probability_zero_never_turns():
    given = sample()
    assert all(torch.equal(Augment([QuarterTurn(0)])(given, s).image, given.image) for s in range(5))


@pytest.mark.parametrize("transforms", [FLIPS, (*FLIPS, v2.RandomAffine(20))])
@pytest.mark.parametrize("objects", [0, 2])
def test_ignored_pixels_move_with_the_image(transforms, objects):
    given = sample(60, 90, objects)
    given.image[:] = 0
    given.image[:, 20:40, 30:70] = 255
    given.ignore = given.image[0] > 0
    for seed in range(4):
        moved = resize_longest_side(Augment(transforms)(given, seed), 90)
        assert ((moved.image[0] > 127) == moved.ignore).float().mean() > 0.98


def test_ignored_pixels_are_not_valid_in_training_and_kept_at_full_size_for_evaluation():
    a, b = sample(8, 8, objects=1), sample(8, 8, objects=2, seed=1)
    a.ignore = torch.zeros(8, 8, dtype=torch.bool)
    a.ignore[:4] = True
    batch = training(a, b, side=4)
    assert batch.valid_pixels().flatten(1).sum(1).tolist() == [8, 16, 16]
    assert not batch.valid_pixels()[0, :2].any()
    batch = evaluation(a, b, side=4).to("cpu")
    assert batch.ignore is None
    assert torch.equal(batch.originals[0].ignore, a.ignore)
    assert batch.originals[1].ignore is None


def test_flips_and_turns_are_the_dihedral_view_that_their_seed_draws():
    augment, given = Augment(FLIPS), Blobs([3])[0]
    given.ignore = given.masks[0].roll(3, 1)
    views = set()
    for seed in range(60):
        image, masks = augment._apply(given.image, given.masks.view(torch.uint8), seed)
        moved, view = augment(given, seed), augment.view(seed)
        assert torch.equal(moved.image, image)
        assert torch.equal(moved.masks, masks > 0)
        assert torch.equal(moved.ignore, dihedral(given.ignore, view))
        views.add(view)
    assert views == set(range(8))


def test_transforms_that_are_not_cacheable_are_named():
    assert Augment(FLIPS).not_cacheable == Augment([]).not_cacheable == []
    assert Augment([*FLIPS, v2.ColorJitter(0.5), v2.RandomRotation(30)]).not_cacheable == [
        "ColorJitter",
        "RandomRotation",
    ]


GEOMETRY = {
    "color": [v2.ColorJitter(0.3)],
    "turn": [v2.RandomAffine(40, translate=(0.3, 0.3))],
    "crop": [v2.RandomResizedCrop((24, 31), antialias=True)],
    "flip and bend": [v2.RandomHorizontalFlip(), v2.ElasticTransform(20.0)],
}


@pytest.mark.parametrize("with_ignore", [False, True])
@pytest.mark.parametrize("name", GEOMETRY)
def test_masks_in_id_maps_move_as_dense_ones_without_becoming_dense(name, with_ignore, monkeypatch):
    ids = np.kron(np.arange(1, 21).reshape(4, 5), np.ones((10, 8))).astype(np.uint16)
    ids[ids == 20] = 40_000  # beyond int16
    over = np.zeros_like(ids)
    over[15:30, 5:9] = 7  # a second map
    layers = IdLayers()
    for one in (ids, over):
        layers.add(one)
    masks, size = layers.masks(), ids.shape
    ignore = torch.from_numpy(ids == 3) if with_ignore else None
    image = torch.randint(0, 255, (3, *size), dtype=torch.uint8)
    labels = torch.arange(len(masks)) * 2
    compact = Sample(image, masks, labels, "a", size, torch.arange(len(masks)), ignore=ignore)
    augment = Augment(GEOMETRY[name])
    for seed in range(3):
        expected = augment(replace(compact, masks=dense(masks)), seed)
        with monkeypatch.context() as patch:
            patch.setattr(IdMasks, "__getitem__", None)
            found = augment(compact, seed)
        assert torch.equal(found.image, expected.image)
        assert torch.equal(dense(found.masks), expected.masks)
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.object_index, expected.object_index)
        assert found.size == expected.size
        assert found.ignore is expected.ignore is None or torch.equal(found.ignore, expected.ignore)
