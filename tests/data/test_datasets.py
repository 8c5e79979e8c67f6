from functools import partial

import pytest
import torch
from torchvision.transforms import v2

from sam_ft import types
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.map_targets import instance_targets
from sam_ft.data.transforms import Augment, QuarterTurn, dihedral_sample, resize_longest_side
from sam_ft.types import Features
from sam_ft.utils.errors import ConfigError, DataError
from tests.support.batches import evaluation
from tests.support.blobs import Blobs, CompactBlobs

FLIPS = (v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5), QuarterTurn(0.75))
COUNTS = [2, 6, 3]


def training_set(transforms=(), counts=COUNTS, max_objects=None, **options):
    return TrainingSet(Blobs(counts), Augment(transforms), 64, max_objects, seed=0, **options)


def read_by_name(keys):
    """Features that hold the position of each key in the alphabet; None for a batch with the key z."""
    if "z" in keys:
        return None
    return Features((torch.tensor([float(ord(key) - ord("a")) for key in keys]),))


def test_at_most_so_many_objects_of_an_image_are_drawn_anew_in_each_epoch():
    dataset = training_set(max_objects=3)
    drawn = [dataset.batch([dataset.draw(epoch, 1)]).object_index.tolist() for epoch in range(20)]
    assert all(len(chosen) == 3 and chosen == sorted(chosen) for chosen in drawn)
    assert set().union(*drawn) == set(range(6))
    assert len(set(map(tuple, drawn))) > 5
    assert (
        drawn[4]
        == dataset.batch([dataset.draw(4, 0), dataset.draw(4, 1)]).select(torch.arange(2, 5)).object_index.tolist()
    )


@pytest.mark.parametrize("transforms", [(), FLIPS, (*FLIPS, v2.ColorJitter(0.5))], ids=["none", "view", "augment"])
@pytest.mark.parametrize("max_objects", [3, None])
def test_training_makes_only_the_chosen_objects_dense(transforms, max_objects):
    compact = CompactBlobs(COUNTS)
    dense, lazy = (
        TrainingSet(split, Augment(transforms), 64, max_objects, seed=0) for split in (Blobs(COUNTS), compact)
    )
    for epoch in range(3):
        draw = dense.draw(epoch, 1)
        compact.reads.clear()
        mine, expected = lazy.batch([draw]), dense.batch([draw])
        assert max(compact.reads) == (max_objects or 6)
        for name in ("images", "masks", "boxes", "object_index"):
            assert torch.equal(getattr(mine, name), getattr(expected, name)), name


def test_evaluation_reads_boxes_from_a_few_masks_at_a_time(monkeypatch):
    compact, pixels = CompactBlobs(COUNTS), Blobs(COUNTS)[1].masks[0].numel()
    monkeypatch.setattr(types, "DENSE_PIXELS", 2 * pixels)
    batch = EvaluationSet(compact, 64).batch([1])
    assert compact.reads == [2, 2, 2]
    assert torch.equal(batch.boxes, EvaluationSet(Blobs(COUNTS), 64).batch([1]).boxes)
    assert batch.masks.shape == (6, 0, 0)


def test_a_batch_is_augmented_by_seed_epoch_and_name():
    dataset = training_set([*FLIPS, v2.ColorJitter(0.5)])
    first, again, later = (dataset.batch([dataset.draw(epoch, 1)]) for epoch in (1, 1, 2))
    assert dataset.draw(1, 1).view is None
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, later.images)


def test_the_view_of_a_draw_is_the_one_in_the_batch():
    dataset = training_set(FLIPS, read_features=read_by_name)
    views = set()
    for epoch in range(30):
        draw = dataset.draw(epoch, 0)
        expected = resize_longest_side(dihedral_sample(Blobs(COUNTS)[0], draw.view), 64)
        batch = dataset.batch([draw])
        assert torch.equal(batch.images[0, :, : expected.size[0], : expected.size[1]], expected.image)
        assert torch.equal(batch.boxes, expected.boxes)
        assert dataset.views_in(epoch, [0]) == [(0, draw.view)]
        views.add(draw.view)
    assert views == set(range(8))


def test_fewer_views_always_hold_the_image_itself_and_differ_between_names():
    dataset = training_set(counts=[1] * 30, views=2)
    views = [{dataset.draw(epoch, image).view for epoch in range(30)} for image in range(30)]
    assert all(0 in of_image and len(of_image) == 2 for of_image in views)
    assert set.union(*views) == set(range(8))


def test_fewer_views_of_an_augmentation_that_is_not_cacheable_are_refused(messages):
    with messages.raises(ConfigError, "cache.views=2", "ColorJitter"):
        training_set([v2.ColorJitter(0.5)], views=2)
    dataset = training_set([v2.ColorJitter(0.5)], read_features=read_by_name)
    assert dataset.views_in(1, range(3)) == []
    assert training_set(FLIPS).views_in(1, range(3)) == []  # nothing to read from


def test_a_batch_holds_features_of_all_its_images_or_the_pixels_of_all():
    dataset = training_set(read_features=read_by_name)
    dataset.keys = {(0, 0): "b", (1, 0): "c", (2, 0): ""}
    draws = [dataset.draw(1, image) for image in range(3)]
    cached = dataset.batch(draws[:2])
    assert cached.images is None
    assert cached.features.maps[0].tolist() == [1, 2]
    plain = training_set()
    for other in (dataset.batch(draws), plain.batch(draws)):  # the third image has no key
        assert other.features is None
        assert other.images.shape == (3, 3, 64, 64)
    dataset.keys[2, 0] = "z"  # or a damaged file
    assert dataset.batch([dataset.draw(1, image) for image in range(3)]).features is None
    fresh = plain.batch(draws[:2])
    for name in ("masks", "boxes", "labels", "object_index", "image_index"):
        assert torch.equal(getattr(cached, name), getattr(fresh, name))
    assert (cached.names, cached.sizes) == (fresh.names, fresh.sizes)


def test_images_with_features_are_not_read(monkeypatch):
    without_pixels = [Blobs(COUNTS).annotations(index) for index in range(3)]
    monkeypatch.setattr(Blobs, "annotations", lambda self, index: without_pixels[index])
    monkeypatch.setattr(Blobs, "__getitem__", None)
    datasets = training_set(read_features=read_by_name), EvaluationSet(Blobs(COUNTS), 64, read_by_name)
    for dataset in datasets:
        dataset.keys = {(image, 0): "a" for image in range(3)}
    training, evaluation = datasets
    for batch in (training.batch([training.draw(1, image) for image in range(3)]), evaluation.batch(range(3))):
        assert batch.features is not None
        assert batch.num_objects == sum(COUNTS)


def test_an_evaluation_batch_has_all_objects_and_the_original_masks():
    dataset = EvaluationSet(Blobs(COUNTS), 64)
    batch, expected = dataset.batch(range(3)), evaluation(*Blobs(COUNTS))
    assert torch.equal(batch.images, expected.images)
    assert torch.equal(batch.boxes, expected.boxes)
    assert batch.image_index.tolist() == [0] * 2 + [1] * 6 + [2] * 3
    for original, sample in zip(batch.originals, Blobs(COUNTS), strict=True):
        assert torch.equal(original.masks, sample.masks)
        assert original.size == sample.size
    assert dataset.all_views == [(0, 0), (1, 0), (2, 0)]


def test_a_user_s_mistake_is_returned_as_a_value(monkeypatch):
    def unreadable(self, index):
        raise DataError("x.png: cannot be read")

    monkeypatch.setattr(Blobs, "__getitem__", unreadable)
    dataset = training_set()
    for found in (dataset.__getitems__([dataset.draw(1, 0)]), EvaluationSet(Blobs(COUNTS), 64).__getitems__([0])):
        assert isinstance(found, DataError)


@pytest.mark.parametrize("transforms", [(), FLIPS, (*FLIPS, v2.ColorJitter(0.5))], ids=["none", "view", "augment"])
def test_maps_of_a_head_show_all_objects_as_the_pixels_lie(transforms):
    make_maps = partial(instance_targets, image_size=64, side=64)
    with_head = training_set(transforms, max_objects=2, make_maps=make_maps)
    every = training_set(transforms)
    for epoch in range(4):
        batch = with_head.batch([with_head.draw(epoch, 1)])
        foreground = batch.maps[0, 0].nan_to_num() > 0
        whole = every.batch([every.draw(epoch, 1)])
        assert torch.equal(foreground, whole.masks.any(dim=0))
        assert torch.equal(batch.images, whole.images)
        assert batch.num_objects == 2


def test_a_head_gets_pixels_beside_cached_features():
    make_maps = partial(instance_targets, image_size=64, side=64)
    dataset = training_set(FLIPS, read_features=read_by_name, make_maps=make_maps)
    dataset.keys = {(1, view): "b" for view in range(8)}
    batch = dataset.batch([dataset.draw(0, 1)])
    assert batch.features is not None
    fresh = training_set(FLIPS)
    assert torch.equal(batch.images, fresh.batch([fresh.draw(0, 1)]).images)
    kept = EvaluationSet(Blobs(COUNTS), 64, read_by_name, keep_pixels=True)
    kept.keys = {(0, 0): "a"}
    scored = kept.batch([0])
    assert scored.features is not None
    assert torch.equal(scored.images, EvaluationSet(Blobs(COUNTS), 64).batch([0]).images)
