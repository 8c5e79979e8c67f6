"""The generator against the official one with the same weights, and its score against sums done by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.evaluation import automatic as amg
from sam_ft.evaluation.automatic import FoundMasks, evaluate_amg, generate, point_grid, stability_scores
from sam_ft.metrics.average_precision import AveragePrecision, encode_masks
from sam_ft.task import PromptedSegmentation
from tests.support.blobs import Blobs
from tests.support.reference import segment_anything, small_sam
from tests.support.tiny import SPEC, tiny_sam

COUNTS = [4, 2, 0]
CERTAIN = {"pred_iou_thresh": 0.1, "nms_thresh": 0.7, "stability_thresh": 0.4}
ANYTHING = {"pred_iou_thresh": -100.0, "nms_thresh": 1.0, "stability_thresh": -1.0}
NO_DOUBLES = {**ANYTHING, "nms_thresh": 0.6}  # here boxes one pixel larger would leave other masks
DEFAULT = {"pred_iou_thresh": 0.88, "nms_thresh": 0.7, "stability_thresh": 0.95}


def make_pair(logits_scale, iou_shift):
    """Our tiny model and the official one, their guesses far enough apart for thresholds to lie between them."""
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
def sure_pair():
    """The same, sure enough of themselves for the thresholds that SAM comes with."""
    return make_pair(logits_scale=10000, iou_shift=2)


def loader(images_per_batch=3):
    return evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), images_per_batch, workers=0)


def ours(task, image, chunk=10, **thresholds) -> FoundMasks:
    batch = next(iter(loader()))
    with torch.no_grad():
        features = task.encode(batch)
    sizes = batch.input_sizes[image], batch.original_sizes[image]
    return generate(task, features, image, *sizes, points_per_side=8, chunk=chunk, **thresholds)


def official(model, image, pred_iou_thresh, nms_thresh, stability_thresh, points_per_side=8):
    generator = segment_anything.SamAutomaticMaskGenerator(
        model,
        points_per_side=points_per_side,
        points_per_batch=7,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_thresh,
        box_nms_thresh=nms_thresh,
    )
    return generator.generate(Blobs(COUNTS)[image].image.permute(1, 2, 0).numpy())


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' decode with NumPy 2
@pytest.mark.parametrize("image", range(3))
@pytest.mark.parametrize(
    ("thresholds", "fewest", "most"), [(ANYTHING, 192, 192), (NO_DOUBLES, 6, 12), (CERTAIN, 3, 30)]
)
def test_the_masks_and_scores_are_those_of_the_official_generator(pair, image, thresholds, fewest, most):
    task, model = pair
    theirs, found = official(model, image, **thresholds), ours(task, image, **thresholds)
    assert fewest <= len(theirs) <= most
    assert len(found.rles) == len(theirs)
    guesses = np.array([record["predicted_iou"] for record in theirs])
    np.testing.assert_allclose(found.pred_iou, guesses, atol=1e-5)
    assert found.pred_iou.tolist() == sorted(found.pred_iou.tolist(), reverse=True)
    masks = np.moveaxis(coco_mask.decode(found.rles), 2, 0).astype(bool)
    their_masks = np.stack([record["segmentation"] for record in theirs])
    # A pixel whose logit is within rounding of a threshold may fall on either side of it.
    assert (masks != their_masks).sum() <= 2
    stability = np.array([record["stability_score"] for record in theirs])
    np.testing.assert_allclose(found.stability, stability, atol=2e-3)
    assert (abs(found.stability.numpy() - stability) > 1e-6).sum() <= 2
    boxes = np.array([record["bbox"] for record in theirs])  # x, y, width - 1, height - 1
    boxes[:, 2:] += boxes[:, :2] + 1
    same = (masks == their_masks).all(axis=(1, 2)) & masks.any(axis=(1, 2))
    assert np.array_equal(found.boxes.numpy()[same], boxes[same])


def test_each_filter_and_the_suppression_remove_some(pair):
    def count(**changed):
        return len(ours(pair[0], 0, **{**CERTAIN, **changed}).rles)

    kept = count()
    for name, value in ANYTHING.items():
        assert 0 < kept < count(**{name: value}), name


def test_what_is_found_hangs_neither_on_the_chunk_nor_on_how_many_are_upsampled_at_once(pair, monkeypatch):
    whole = ours(pair[0], 1, chunk=64, **CERTAIN)
    monkeypatch.setattr(amg, "PIXELS_AT_ONCE", 2 * 64 * 64)
    parts = ours(pair[0], 1, chunk=3, **CERTAIN)
    assert parts.rles == whole.rles
    torch.testing.assert_close(parts.pred_iou, whole.pred_iou)


def test_points_are_the_centres_of_equal_cells():
    assert point_grid(2, (4, 8)).tolist() == [[2, 1], [6, 1], [2, 3], [6, 3]]


def test_stability_is_the_overlap_of_a_high_and_a_low_cut():
    # above 1: two pixels; above -1: these, 1.0, 0.5 and -0.5
    one = torch.tensor([[9.0, 1.1, 1.0], [0.5, -0.5, -1.0]])
    assert stability_scores(torch.stack([one, one + 20]), 1.0).tolist() == pytest.approx([2 / 5, 1])
    assert stability_scores(one[None] - 20).isnan().all()


def test_an_evaluation_finds_what_the_official_generator_finds_by_default(sure_pair):
    task, model = sure_pair
    counts = [len(official(model, image, **DEFAULT, points_per_side=4)) for image in range(3)]
    assert min(counts) > 0
    whole = evaluate_amg(task, loader(), points_per_side=4)
    assert whole["masks_per_image"] == pytest.approx(np.mean(counts))
    assert evaluate_amg(task, loader(1), points_per_side=4, chunk=3) == pytest.approx(whole)


def test_a_model_that_finds_nothing_scores_zero_and_says_how_little_it_believed_in_itself(pair):
    scores = evaluate_amg(pair[0], loader(), points_per_side=2)
    # as the official generator says it once nothing is too bad for it
    highest = [official(pair[1], image, **ANYTHING, points_per_side=2)[0]["predicted_iou"] for image in range(3)]
    assert 0 < np.mean(highest) < 0.88
    expected = {"ap50": 0, "ap75": 0, "masks_per_image": 0, "highest_pred_iou": np.mean(highest)}
    assert scores == pytest.approx(expected, abs=1e-5)


def test_an_evaluation_compares_each_image_with_its_own_objects_and_ignored_region(pair, monkeypatch):
    truth = {sample.original_size: sample.masks for sample in Blobs(COUNTS)}

    def find_all_and_a_corner(task, features, image, input_size, original_size, *rest):
        corner = torch.zeros(1, *original_size, dtype=torch.bool)
        corner[:, -4:, -4:] = True
        rles = encode_masks(torch.cat([corner, truth[original_size]]))
        return SimpleNamespace(rles=rles, pred_iou=torch.linspace(0.9, 0.1, len(rles)), highest_pred_iou=0.9)

    def scores(ignore):
        (batch,) = loader()
        if ignore:
            batch.original_ignore = [torch.ones(masks.shape[-2:], dtype=torch.bool) for masks in truth.values()]
        return evaluate_amg(pair[0], [batch])

    monkeypatch.setattr(amg, "generate", find_all_and_a_corner)
    expected = {"ap50": 1, "ap75": 1, "masks_per_image": 3, "highest_pred_iou": 0.9}
    assert scores(ignore=True) == pytest.approx(expected)
    assert scores(ignore=False)["ap50"] < 0.7
