from dataclasses import replace

import pytest
import torch

from sam_ft import types
from sam_ft.data.collate import collate
from sam_ft.data.transforms import resize_longest_side
from sam_ft.types import Features, Original, Prediction, Prompts, dense, dense_parts
from tests.support.batches import evaluation, sample, training
from tests.support.masks import CountedMasks

A, B, NONE = sample("a", 32, 64, objects=3), sample("b", 64, 48, objects=2), sample("none", 64, 64, objects=0)


def test_ignored_pixels_are_not_valid():
    ignoring = sample("ignoring", 64, 64, objects=1)
    ignoring.ignore = torch.zeros(64, 64, dtype=torch.bool)
    ignoring.ignore[:, :16] = True
    batch = training(A, ignoring)
    assert torch.equal(batch.valid_pixels()[:3], training(A).valid_pixels())
    assert torch.equal(batch.valid_pixels()[3], ~ignoring.ignore)


@pytest.mark.parametrize("make", [training, evaluation])
def test_one_image_of_a_batch_is_the_batch_of_that_image(make):
    whole = make(A, NONE, B)
    for index, alone in enumerate((A, NONE, B)):
        one, expected = whole.image(index), make(alone)
        for name in ("images", "masks", "boxes", "labels", "object_index", "image_index"):
            assert torch.equal(getattr(one, name), getattr(expected, name)), name
        assert (one.names, one.sizes) == (expected.names, expected.sizes)
        for original, other in zip(one.originals, expected.originals, strict=True):
            assert torch.equal(original.masks, other.masks)
            assert original.size == other.size


@pytest.mark.parametrize("make", [training, evaluation])
def test_some_objects_of_a_batch_keep_its_images(make):
    whole = make(A, NONE, B)
    some = whole.select(torch.tensor([1, 2, 4]))
    assert some.image_index.tolist() == [0, 0, 2]
    assert some.object_index.tolist() == [1, 2, 1]
    assert torch.equal(some.boxes, whole.boxes[[1, 2, 4]])
    assert torch.equal(some.masks, whole.masks[[1, 2, 4]])
    assert torch.equal(some.images, whole.images)
    kept = [A.masks[1:], NONE.masks, B.masks[1:]]
    assert all(torch.equal(o.masks, masks) for o, masks in zip(some.originals, kept, strict=False))
    assert len(some.originals) == len(whole.originals)


def test_features_of_one_image_are_a_part_of_all_maps():
    maps = torch.rand(3, 4, 8, 8), torch.rand(3, 256, 4, 4)
    features = Features(maps)
    assert features.embedding is maps[1]
    assert all(torch.equal(one, whole[1:2]) for one, whole in zip(features.image(1).maps, maps, strict=True))
    batch = collate([resize_longest_side(sample, 64) for sample in (A, B, NONE)], 64, features)
    assert batch.images is None
    assert torch.equal(batch.image(2).features.embedding, maps[1][2:])


def test_moving_a_batch_moves_the_tensors_in_lists_and_nested_nouns():
    batch = evaluation(A, B)
    batch.images, batch.features = None, Features((torch.rand(2, 256, 4, 4),))
    batch.originals[1] = Original(B.masks, ~B.masks[0], B.size)
    moved = batch.to("meta")
    assert all(one.device.type == "meta" for one in (moved.boxes, moved.image_index, moved.features.embedding))
    assert [original.masks.device.type for original in moved.originals] == ["meta", "meta"]
    assert moved.originals[0].ignore is None
    assert moved.originals[1].ignore.device.type == "meta"
    assert (moved.names, moved.sizes) == (batch.names, batch.sizes)
    assert batch.boxes.device.type == "cpu"


def test_selected_objects_of_a_sample_are_given_by_positions_or_flags():
    by_position, by_flag = A.select(torch.tensor([0, 2])), A.select(torch.tensor([True, False, True]))
    for some in (by_position, by_flag):
        assert torch.equal(some.masks, A.masks[[0, 2]])
        assert some.object_index.tolist() == [0, 2]
        assert some.boxes is None


def test_compact_masks_are_dense_where_they_are_selected():
    reads = []
    compact = replace(A, masks=CountedMasks(A.masks, reads))
    for keep in (torch.tensor([0, 2]), torch.tensor([True, False, True])):
        assert torch.equal(compact.select(keep).masks, A.masks[[0, 2]])
    batch = replace(
        evaluation(A, B), originals=[Original(CountedMasks(one.masks, reads), None, one.size) for one in (A, B)]
    )
    some = batch.image(1).select(torch.tensor([1]))
    assert torch.equal(some.originals[0].masks, B.masks[1:])
    assert reads == [2, 2, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_masks_are_made_dense_a_few_at_a_time(count, monkeypatch):
    reads = []
    monkeypatch.setattr(types, "DENSE_PIXELS", count * 32 * 64 + 5)
    for masks in (A.masks, CountedMasks(A.masks, reads)):
        parts = list(dense_parts(masks, A.size))
        assert all(1 <= len(part) <= count for part in parts)
        assert torch.equal(torch.cat(parts), A.masks)
    assert max(reads) == min(3, count)
    assert torch.equal(dense(CountedMasks(A.masks, [])), A.masks)
    assert [part.shape for part in dense_parts(NONE.masks, NONE.size)] == [(0, 64, 64)]
    assert [len(part) for part in dense_parts(CountedMasks(NONE.masks, []), NONE.size)] == [0]


@pytest.mark.parametrize(
    ("prompts", "ambiguous"),
    [
        (Prompts(points=torch.zeros(2, 1, 2)), True),
        (Prompts(points=torch.zeros(2, 2, 2)), False),
        (Prompts(points=torch.zeros(2, 1, 2), boxes=torch.zeros(2, 4)), False),
        (Prompts(points=torch.zeros(2, 1, 2), masks=torch.zeros(2, 1, 8, 8)), False),
        (Prompts(boxes=torch.zeros(2, 4)), False),
    ],
    ids=["point", "two points", "point and box", "point and mask", "box"],
)
def test_a_single_point_alone_is_ambiguous(prompts, ambiguous):
    assert prompts.ambiguous is ambiguous


def test_the_best_candidate_has_the_highest_pred_iou():
    logits = torch.arange(6.0).reshape(2, 3, 1, 1)
    best = Prediction(logits, torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3]])).best()
    assert best.logits.flatten().tolist() == [1, 3]
    assert best.pred_iou.tolist() == pytest.approx(torch.tensor([[0.9], [0.7]]))
    single = Prediction(logits[:, :1], torch.zeros(2, 1))
    assert single.best() is single
