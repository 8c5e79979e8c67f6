"""Automatic mask generation agrees with the official generator with the same weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.evaluation import automatic as amg
from sam_ft.evaluation.automatic import (
    MaskData,
    build_point_grid,
    calculate_stability_score,
    evaluate_amg,
    generate_masks,
)
from sam_ft.metrics.average_precision import encode_masks
from sam_ft.task import PromptedSegmentation
from tests.support.blobs import Blobs
from tests.support.reference import segment_anything, small_sam
from tests.support.tiny import SPEC, tiny_sam

COUNTS = [4, 2, 0]
MODERATE = {"pred_iou_thresh": 0.1, "box_nms_thresh": 0.7, "stability_score_thresh": 0.4}
UNFILTERED = {"pred_iou_thresh": -100.0, "box_nms_thresh": 1.0, "stability_score_thresh": -1.0}
NMS_ONLY = {**UNFILTERED, "box_nms_thresh": 0.6}  # here boxes one pixel larger would leave other masks
DEFAULT = {"pred_iou_thresh": 0.88, "box_nms_thresh": 0.7, "stability_score_thresh": 0.95}


def make_pair(logits_scale, iou_shift):
    """A tiny model and the official one with its weights, whose pred_iou varies enough for thresholds to split it."""
    ours, theirs = tiny_sam(), small_sam(SPEC)
    with torch.no_grad():
        for head in ours.mask_decoder.output_hypernetworks_mlps:
            for parameter in head.layers[-1].parameters():
                parameter *= logits_scale
        for parameter in ours.mask_decoder.iou_prediction_head.layers[-1].parameters():
            parameter *= 10
        ours.mask_decoder.iou_prediction_head.layers[-1].bias += iou_shift
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return PromptedSegmentation(ours), theirs


@pytest.fixture(scope="module")
def pair():
    return make_pair(logits_scale=200, iou_shift=0)


@pytest.fixture(scope="module")
def confident_pair():
    """The same, with pred_iou and stability high enough for the default thresholds."""
    return make_pair(logits_scale=10000, iou_shift=2)


def loader(eval_batch_size=3):
    return evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), eval_batch_size, workers=0)


def ours(task, image, points_per_batch=10, **thresholds) -> MaskData:
    batch = next(iter(loader()))
    with torch.no_grad():
        features = task.encode(batch)
    sizes = batch.sizes[image], batch.originals[image].size
    options = {"points_per_side": 8, "points_per_batch": points_per_batch, **thresholds}
    return generate_masks(task, features, image, *sizes, **options)


def official(model, image, points_per_side=8, **thresholds):
    options = {"points_per_side": points_per_side, "points_per_batch": 7, **thresholds}
    generator = segment_anything.SamAutomaticMaskGenerator(model, **options)
    return generator.generate(Blobs(COUNTS)[image].image.permute(1, 2, 0).numpy())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' decode with NumPy 2
@pytest.mark.parametrize("image", range(3))
@pytest.mark.parametrize(
    ("thresholds", "fewest", "most"), [(UNFILTERED, 192, 192), (NMS_ONLY, 6, 12), (MODERATE, 3, 30)]
)
def test_masks_and_scores_equal_those_of_the_official_generator(pair, image, thresholds, fewest, most):
    task, model = pair
    theirs, data = official(model, image, **thresholds), ours(task, image, **thresholds)
    assert fewest <= len(theirs) <= most
    assert len(data.rles) == len(theirs)
    pred_iou = np.array([record["predicted_iou"] for record in theirs])
    np.testing.assert_allclose(data.pred_iou, pred_iou, atol=1e-5)
    assert data.pred_iou.tolist() == sorted(data.pred_iou.tolist(), reverse=True)
    masks = np.moveaxis(coco_mask.decode(data.rles), 2, 0).astype(bool)
    their_masks = np.stack([record["segmentation"] for record in theirs])
    # A pixel whose logit is within rounding of a threshold may fall on either side of it.
    assert (masks != their_masks).sum() <= 2
    stability = np.array([record["stability_score"] for record in theirs])
    np.testing.assert_allclose(data.stability_score, stability, atol=2e-3)
    assert (abs(data.stability_score.numpy() - stability) > 1e-6).sum() <= 2
    boxes = np.array([record["bbox"] for record in theirs])  # x, y, width - 1, height - 1
    boxes[:, 2:] += boxes[:, :2] + 1
    same = (masks == their_masks).all(axis=(1, 2)) & masks.any(axis=(1, 2))
    assert np.array_equal(data.boxes.numpy()[same], boxes[same])


def test_each_filter_and_the_suppression_remove_some(pair):
    def count(**changed):
        return len(ours(pair[0], 0, **{**MODERATE, **changed}).rles)

    kept = count()
    for name, value in UNFILTERED.items():
        assert 0 < kept < count(**{name: value}), name


def test_masks_depend_neither_on_points_per_batch_nor_on_the_number_upsampled_at_a_time(pair, monkeypatch):
    whole = ours(pair[0], 1, points_per_batch=64, **MODERATE)
    monkeypatch.setattr(amg, "PIXELS_PER_PASS", 2 * 64 * 64)
    split = ours(pair[0], 1, points_per_batch=3, **MODERATE)
    assert split.rles == whole.rles
    torch.testing.assert_close(split.pred_iou, whole.pred_iou)


def test_points_are_the_centers_of_equal_cells():
    assert build_point_grid(2, (4, 8)).tolist() == [[2, 1], [6, 1], [2, 3], [6, 3]]


def test_the_stability_score_is_the_iou_of_masks_at_two_thresholds():
    # two pixels are above 1, five above -1
    one = torch.tensor([[9.0, 1.1, 1.0], [0.5, -0.5, -1.0]])
    assert calculate_stability_score(torch.stack([one, one + 20]), 1.0).tolist() == pytest.approx([2 / 5, 1])
    assert calculate_stability_score(one[None] - 20).isnan().all()


def test_an_evaluation_generates_the_masks_of_the_official_defaults(confident_pair):
    task, model = confident_pair
    counts = [len(official(model, image, **DEFAULT, points_per_side=4)) for image in range(3)]
    assert min(counts) > 0
    whole = evaluate_amg(task, loader(), points_per_side=4)
    assert whole["masks_per_image"] == pytest.approx(np.mean(counts))
    assert evaluate_amg(task, loader(1), points_per_side=4, points_per_batch=3) == pytest.approx(whole)


def test_a_model_without_masks_scores_zero_and_reports_its_highest_pred_iou(pair):
    scores = evaluate_amg(pair[0], loader(), points_per_side=2)
    highest = [official(pair[1], image, **UNFILTERED, points_per_side=2)[0]["predicted_iou"] for image in range(3)]
    assert 0 < np.mean(highest) < 0.88
    expected = {"ap": 0, "ap50": 0, "ap75": 0, "masks_per_image": 0, "highest_pred_iou": np.mean(highest)}
    assert scores == pytest.approx(expected, abs=1e-5)


def test_an_evaluation_compares_each_image_with_its_own_objects_and_ignored_region(pair, monkeypatch):
    gt = {sample.size: sample.masks for sample in Blobs(COUNTS)}

    def gt_and_a_corner(task, features, image, input_size, original_size, *rest):
        corner = torch.zeros(1, *original_size, dtype=torch.bool)
        corner[:, -4:, -4:] = True
        rles = encode_masks(torch.cat([corner, gt[original_size]]))
        return SimpleNamespace(rles=rles, pred_iou=torch.linspace(0.9, 0.1, len(rles)), highest_pred_iou=0.9)

    def scores(ignore):
        (batch,) = loader()
        for original in batch.originals if ignore else []:
            original.ignore = torch.ones(original.size, dtype=torch.bool)
        return evaluate_amg(pair[0], [batch])

    monkeypatch.setattr(amg, "generate_masks", gt_and_a_corner)
    expected = {"ap": 1, "ap50": 1, "ap75": 1, "masks_per_image": 3, "highest_pred_iou": 0.9}
    assert scores(ignore=True) == pytest.approx(expected)
    assert scores(ignore=False)["ap50"] < 0.7
