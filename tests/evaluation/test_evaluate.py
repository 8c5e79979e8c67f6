"""The score against a loop over the official SamPredictor, with the same weights and the same boxes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_ft import Predictor
from sam_ft.adapt import Freeze
from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.data.tiled import TiledSplit, image_of_tile
from sam_ft.evaluation.evaluate import evaluate_prompts
from sam_ft.metrics import BoundaryIou, SegmentationMetrics
from sam_ft.prompts import Box, Clicks, Mixed, Point
from sam_ft.task import PromptedSegmentation
from sam_ft.utils.geometry import masks_to_boxes
from tests.support.blobs import Blobs, CompactBlobs
from tests.support.reference import segment_anything, small_sam
from tests.support.tiny import SPEC, tiny_sam

COUNTS = [1, 5, 0, 3]


@pytest.fixture(scope="module")
def pair():
    """Our tiny model and the official one with its weights."""
    ours, theirs = tiny_sam(), small_sam(SPEC)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, segment_anything.SamPredictor(theirs)


def scored(model, chunk=64, eval_batch_size=3, counts=COUNTS):
    batches = evaluation_loader(EvaluationSet(Blobs(counts), model.image_size), eval_batch_size, workers=0)
    return evaluate_prompts(PromptedSegmentation(model), batches, Box(), SegmentationMetrics(), chunk)


def test_the_score_is_that_of_a_loop_over_the_official_predictor(pair):
    ours, predictor = pair
    ious = []
    for sample in Blobs(COUNTS):
        predictor.set_image(sample.image.permute(1, 2, 0).numpy())
        for mask in sample.masks.numpy():
            y, x = np.nonzero(mask)
            box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            predicted = predictor.predict(box=box, multimask_output=False)[0][0]
            ious.append((predicted & mask).sum() / (predicted | mask).sum())
    result = scored(ours)
    assert 0 < np.mean(ious) < 1
    assert [row["iou"] for row in result.rows] == pytest.approx(ious, abs=1e-6)
    assert result.scores["iou"] == pytest.approx(np.mean(ious), abs=1e-6)
    assert result.scores["objects"] == len(ious) == 9


def test_objects_of_tiles_count_once_and_for_their_image(pair):
    tiled = TiledSplit(Blobs(COUNTS), 40, overlap=0.5, once=True)
    batches = evaluation_loader(EvaluationSet(tiled, pair[0].image_size), 3, workers=0)
    result = evaluate_prompts(PromptedSegmentation(pair[0]), batches, Box(), SegmentationMetrics())
    assert result.scores["objects"] == sum(COUNTS)
    assert result.scores["images"] == 3  # with objects
    objects = sorted((image_of_tile(row["name"]), row["object"]) for row in result.rows)
    assert objects == [(f"blobs_{image}", number) for image, count in enumerate(COUNTS) for number in range(count)]
    means = [
        np.mean([row["iou"] for row in result.rows if image_of_tile(row["name"]) == f"blobs_{image}"])
        for image in (0, 1, 3)
    ]
    assert result.scores["iou_per_image"] == pytest.approx(np.mean(means))
    assert {row["name"] for row in result.rows} <= {*tiled.names}  # a row's name finds its pixels


def test_the_score_depends_neither_on_the_batch_nor_on_the_chunk(pair):
    whole = scored(pair[0])
    for chunk, images in ((1, 1), (2, 4)):
        other = scored(pair[0], chunk, images)
        assert other.scores == pytest.approx(whole.scores, abs=1e-7)
        assert [row["name"] for row in other.rows] == [row["name"] for row in whole.rows]


NESTED = Mixed([Clicks(rounds=2), Mixed([Box(jitter=0.1), Point(2)], [1, 1])], [1, 2])


@pytest.mark.parametrize("prompter", [Box(), NESTED], ids=["box", "mixed"])
def test_an_evaluation_makes_one_chunk_of_objects_dense_at_a_time(pair, prompter):
    task, split, results = PromptedSegmentation(pair[0]), CompactBlobs([5, 0, 9]), []
    for one in (split, Blobs([5, 0, 9])):
        # Boxes are read before.
        batches = [EvaluationSet(one, 64).batch([0, 1, 2])]
        split.reads.clear()
        results.append(evaluate_prompts(task, batches, prompter, SegmentationMetrics(), chunk=2))
        if one is split:
            assert max(split.reads) == 2
            assert sum(split.reads) == 14
    assert results[0] == results[1]


def test_rows_are_in_order_of_images_and_objects_however_prompts_are_mixed(pair):
    task = PromptedSegmentation(pair[0])
    batch = EvaluationSet(Blobs([9, 0, 7]), 64).batch([0, 1, 2])
    order = torch.cat([one.objects for one in task.predict(batch, NESTED, 2)]).tolist()
    assert order != list(range(16))  # chunks come by prompter
    assert sorted(order) == list(range(16))
    result = evaluate_prompts(task, [batch], NESTED, SegmentationMetrics(), 2)
    assert [(row["name"], row["object"]) for row in result.rows] == [
        *(("blobs_0", index) for index in range(9)),
        *(("blobs_2", index) for index in range(7)),
    ]
    means = [np.mean([row["iou"] for row in result.rows if row["name"] == name]) for name in ("blobs_0", "blobs_2")]
    assert result.scores["iou_per_image"] == pytest.approx(np.mean(means), abs=1e-12)
    assert result.scores["images"] == 2


def test_rows_hold_every_score_of_each_object_and_groups_their_means(pair):
    batches = evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), 2, workers=0)
    task, metric = PromptedSegmentation(pair[0]), SegmentationMetrics([BoundaryIou()])
    result = evaluate_prompts(task, batches, Box(), metric, classes={1: "disc", 2: "ring"})
    columns = ["name", "object", "label", "input_side", "area", "iou", "dice", "precision", "recall", "pred_iou"]
    columns += ["boundary_iou", "predicted_area"]
    assert all(list(row) == columns for row in result.rows)
    assert [row["area"] for row in result.rows if row["name"] == "blobs_3"] == Blobs(COUNTS)[3].masks.sum(
        (1, 2)
    ).tolist()
    sample = Blobs(COUNTS)[3]
    boxes = masks_to_boxes(sample.masks)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) * 64 / max(sample.size)
    found = [row["input_side"] for row in result.rows if row["name"] == "blobs_3"]
    assert found == pytest.approx(sides.tolist(), rel=0.02)
    for row in result.rows:
        assert row["predicted_area"] * row["precision"] == pytest.approx(row["area"] * row["recall"])
    for name in ("iou", "dice", "precision", "recall", "boundary_iou"):
        assert result.scores[name] == pytest.approx(np.mean([row[name] for row in result.rows]), abs=1e-12)
    disc = {"objects": 9, **{name: result.scores[name] for name in ("iou", "dice", "boundary_iou")}}
    absent = {"objects": 0, "iou": None, "dice": None, "boundary_iou": None}
    assert result.groups == {"class": {"disc": disc, "ring": absent}, "size": {"small": disc}}
    assert result.scores["iou_per_class"] == result.scores["iou"]


def test_ignored_pixels_are_left_out_of_the_score(pair):
    class Ignoring(Blobs):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, ignore=~sample.masks.any(0))  # everything but the objects

    batches = evaluation_loader(EvaluationSet(Ignoring([1]), 64), 1, workers=0)
    result = evaluate_prompts(PromptedSegmentation(pair[0]), batches, Box(), SegmentationMetrics())
    (row,) = result.rows
    (plain,) = scored(pair[0], counts=[1]).rows
    assert row["precision"] == 1 > plain["precision"]
    assert row["iou"] == row["recall"] == plain["recall"]


def test_jittered_evaluation_prompts_depend_on_the_name_alone(pair):
    def boxes(eval_batch_size):
        task, found = PromptedSegmentation(pair[0]), []
        for batch in evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), eval_batch_size, workers=0):
            found += [predicted.prompts.boxes for predicted in task.predict(batch, Box(jitter=0.1))]
        return torch.cat(found)

    torch.testing.assert_close(boxes(1), boxes(4))


def test_three_hundred_objects_in_an_image_are_decoded_in_chunks(pair):
    sample = Blobs([1])[0]
    many = sample.select(torch.zeros(300, dtype=torch.int64))

    class Split(Blobs):
        def __getitem__(self, index):
            return many

    batches = evaluation_loader(EvaluationSet(Split([300]), 64), 1, workers=0)
    result = evaluate_prompts(PromptedSegmentation(pair[0]), batches, Box(), SegmentationMetrics(), chunk=32)
    assert len({round(row["iou"], 6) for row in result.rows}) == 1
    assert result.scores["objects"] == 300


@pytest.mark.parametrize("multimask", [False, True])
def test_the_predictor_predicts_as_the_official_one(pair, multimask):
    ours, predictor = pair
    image = Blobs([4])[0].image.permute(1, 2, 0).numpy()
    predictor.set_image(image)
    box, points, labels = [8.0, 9.0, 30.0, 28.0], [[15.0, 16.0], [40.0, 20.0]], [1, 0]
    seed = predictor.predict(box=np.array(box), multimask_output=False)[2]
    cases = [
        {"boxes": [box]},
        {"points": [points], "point_labels": [labels]},
        {"boxes": [box], "points": [points], "point_labels": [labels]},
        {"boxes": [box], "mask_input": seed[None]},
        {"mask_input": seed[None], "points": [points], "point_labels": [labels]},
    ]
    for case in cases:
        official = {
            "box": np.array(box) if "boxes" in case else None,
            "point_coords": np.array(points) if "points" in case else None,
            "point_labels": np.array(labels) if "points" in case else None,
            "mask_input": seed if "mask_input" in case else None,
        }
        masks, scores, logits = predictor.predict(**official, multimask_output=multimask)
        found = Predictor(ours).predict(image, **case, multimask_output=multimask)
        assert np.array_equal(found[0][0], masks)
        np.testing.assert_allclose(found[1][0], scores, atol=1e-4)
        np.testing.assert_allclose(found[2][0], logits, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({}, "prompt"),
        ({"boxes": [1, 2, 3, 4]}, "boxes is (4,); expected (N, 4)"),
        ({"points": [[[1, 2]]]}, "point_labels"),
        ({"boxes": [[0, 0, 9, 9]] * 2, "points": [[[1, 2]]], "point_labels": [[1]]}, "objects"),
    ],
)
def test_the_predictor_refuses_wrong_prompts(messages, pair, arguments, fact):
    image = np.zeros((20, 30, 3), np.uint8)
    with messages.raises(ValueError, fact):
        Predictor(pair[0]).predict(image, **arguments)


def test_the_predictor_refuses_an_image_that_is_not_rgb_bytes(messages, pair):
    with messages.raises(ValueError, "float64 (20, 30)", "uint8 (H, W, 3)"):
        Predictor(pair[0]).predict(np.zeros((20, 30)), boxes=[[0, 0, 9, 9]])


def test_an_image_changed_in_place_is_encoded_again(pair):
    predictor = Predictor(pair[0])
    image = Blobs([4])[0].image.permute(1, 2, 0).contiguous().numpy().copy()
    before = predictor.predict(image, boxes=[[8, 9, 30, 28]])[2]
    image[:] = 255 - image
    after = predictor.predict(image, boxes=[[8, 9, 30, 28]])[2]
    assert not np.array_equal(before, after)


def test_an_encoder_changed_in_place_encodes_again(pair):
    model = tiny_sam()
    predictor, image = Predictor(model), Blobs([4])[0].image.permute(1, 2, 0).numpy()
    before = predictor.predict(image, boxes=[[8, 9, 30, 28]])[2]
    model.load_state_dict({name: t + 0.01 * t.abs().mean() for name, t in tiny_sam(1).state_dict().items()})
    after = predictor.predict(image, boxes=[[8, 9, 30, 28]])[2]
    assert np.array_equal(after, Predictor(model).predict(image, boxes=[[8, 9, 30, 28]])[2])
    assert not np.array_equal(before, after)


def test_weights_saved_and_loaded_give_the_same_predictions_bit_for_bit(tmp_path):
    from sam_ft import load_partial_weights, save_partial_weights

    tuned, fresh = tiny_sam(), tiny_sam()
    Freeze(["mask_decoder.*"])(tuned)
    with torch.no_grad():
        for parameter in tuned.mask_decoder.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_partial_weights(tuned, tmp_path / "tuned.safetensors")
    load_partial_weights(fresh, tmp_path / "tuned.safetensors")
    image = Blobs([4])[0].image.permute(1, 2, 0).numpy()
    one, two = (Predictor(model).predict(image, boxes=[[8, 9, 30, 28]]) for model in (tuned, fresh))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
