import math

import pytest
import torch

from sam_ft.metrics import BoundaryIou, SegmentationMetrics, SurfaceDistance
from sam_ft.utils.errors import ConfigError
from tests.support.masks import random_pairs, rows, square
from tests.support.metric_shares import COUNTS, scored

ONE = torch.ones(1, dtype=torch.int64)


def update(metric, predicted, gt, name="image", **more):
    count = len(gt)
    return metric.update(name, predicted, gt, torch.ones(count), torch.ones(count, dtype=torch.int64), **more)


def test_scores_equal_those_computed_by_hand():
    metric = SegmentationMetrics()
    scores = metric.update("image", rows("##..", "#..."), rows(".##.", "...."), torch.tensor([0.5]), ONE)
    # 1 pixel in both, 3 predicted, 2 gt
    assert scores["area"].tolist() == [2]
    by_hand = {"iou": 1 / 4, "dice": 2 / 5, "precision": 1 / 3, "recall": 1 / 2}
    assert {name: scores[name].item() for name in by_hand} == pytest.approx(by_hand)
    means = metric.compute().scores
    assert {name: means[name] for name in by_hand} == pytest.approx(by_hand)
    assert means["pred_iou_mae"] == pytest.approx(0.5 - 1 / 4)


def test_means_over_objects_and_over_images_differ_when_images_hold_different_numbers():
    metric = SegmentationMetrics()
    right, wrong = rows("#."), rows(".#")
    update(metric, torch.cat([right, right, right]), torch.cat([right, right, right]))
    update(metric, wrong, right, name="other")
    scores = metric.compute().scores
    assert scores["iou"] == pytest.approx(3 / 4)
    assert scores["iou_per_image"] == pytest.approx(1 / 2)
    assert (scores["objects"], scores["images"]) == (4, 2)


def test_the_objects_of_an_image_may_come_in_parts_and_in_any_order():
    predicted, gt = random_pairs(7, (40, 50))
    whole, parts = SegmentationMetrics([BoundaryIou()]), SegmentationMetrics([BoundaryIou()])
    for name, objects in (("a", [4, 6]), ("b", [0, 3]), ("a", [5]), ("b", [1, 2])):
        update(parts, predicted[objects], gt[objects], name=name)
    for name, objects in (("a", [4, 5, 6]), ("b", [0, 1, 2, 3])):
        update(whole, predicted[objects], gt[objects], name=name)
    assert str(parts.compute()) == str(whole.compute())  # as text, in which nan is nan
    assert parts.compute().scores["images"] == 2


def test_an_image_without_objects_counts_for_nothing():
    metric = SegmentationMetrics([BoundaryIou(), SurfaceDistance()])
    none = torch.zeros(0, 2, 2, dtype=torch.bool)
    assert len(update(metric, none, none)["iou"]) == 0
    assert metric.compute().scores["images"] == 0


def test_scores_without_any_object_are_nan_and_never_better():
    scores, groups = SegmentationMetrics([BoundaryIou()]).compute({1: "cell"})
    counts = scores.pop("objects"), scores.pop("images")
    assert counts == (0, 0)
    assert {"iou", "precision", "iou_per_class", "pred_iou_spearman", "boundary_iou"} < scores.keys()
    assert all(math.isnan(score) for score in scores.values())
    assert not scores["iou"] > 0.0
    assert groups == {"class": {"cell": {"objects": 0, "iou": None, "dice": None, "boundary_iou": None}}, "size": {}}


def test_an_empty_prediction_scores_zero():
    metric = SegmentationMetrics()
    update(metric, rows(".."), rows("#."))
    scores = metric.compute().scores
    assert [scores[name] for name in ("iou", "dice", "precision", "recall")] == [0, 0, 0, 0]


def test_reset_forgets():
    metric = SegmentationMetrics()
    update(metric, rows("#."), rows("#."))
    metric.reset()
    assert metric.compute().scores["objects"] == 0


def test_ignored_pixels_count_for_nothing_in_any_score():
    # gt is the left half without its last column, which is ignored; the prediction is the whole image
    gt, ignore = square(8, 3, 0, 0), square(8, 1, 0, 3)[0]
    metric = SegmentationMetrics([BoundaryIou(), SurfaceDistance()])
    scores = update(metric, square(8, 8, 0, 0), gt, ignore=ignore)
    assert scores["iou"].item() == 24 / (64 - 8)
    # a prediction that differs from gt only in ignored pixels is perfect
    scores = update(metric, square(8, 4, 0, 0), gt, ignore=ignore)
    names = ("iou", "dice", "precision", "recall", "boundary_iou", "nsd", "hd95")
    assert [scores[name].item() for name in names] == [1, 1, 1, 1, 1, 1, 0]
    assert update(metric, square(8, 4, 0, 0), gt)["iou"].item() == 24 / 32


def test_extra_metrics_are_computed_per_object_and_averaged():
    metric = SegmentationMetrics([BoundaryIou()])
    gt = square(4, 4, top=2, left=3)
    scores = update(metric, torch.cat([gt, square(4, 4, top=2, left=2)]), torch.cat([gt, gt]))
    assert scores["boundary_iou"].tolist() == [1, 6 / 18]
    assert metric.compute().scores["boundary_iou"] == pytest.approx(2 / 3)
    assert "boundary_iou" in metric.monitors


def test_a_distance_cannot_be_monitored_because_lower_is_better():
    assert "nsd" in SegmentationMetrics([SurfaceDistance()]).monitors
    assert "hd95" not in SegmentationMetrics([SurfaceDistance()]).monitors


def test_everything_that_can_be_monitored_is_a_score():
    metric = SegmentationMetrics([BoundaryIou(), SurfaceDistance()])
    assert {*metric.monitors, *metric.class_monitors} < metric.compute({1: "cell"}).scores.keys()


def test_an_extra_metric_given_twice_is_refused(messages):
    with messages.raises(ConfigError, "metric.extra_metrics: hd95, nsd"):
        SegmentationMetrics([SurfaceDistance(1.0), SurfaceDistance(2.0)])


@pytest.mark.parametrize("metric", ["iou", 2.0, None, BoundaryIou])
def test_a_value_that_is_not_a_metric_is_refused(messages, metric):
    with messages.raises(ValueError, "extra_metrics="):
        SegmentationMetrics([metric])


def test_noc_is_the_number_of_clicks_until_the_iou_is_first_reached():
    metric = SegmentationMetrics()
    gt = rows("#.").repeat(3, 1, 1)
    ious = torch.tensor([[0.9, 0.5, 0.9, 0.9], [0.2, 0.85, 0.8, 0.9], [0.1, 0.2, 0.3, 0.4]])  # the third never does: 4
    scores = update(metric, gt, gt, click_ious=ious)
    assert scores["NoC@85"].tolist() == [1, 2, 4]
    assert scores["NoC@90"].tolist() == [1, 4, 4]
    assert scores["iou_click_2"].tolist() == pytest.approx([0.5, 0.85, 0.2])
    means = metric.compute().scores
    assert means["iou_click_1"] == pytest.approx(1.2 / 3)
    assert means["iou_click_3"] == pytest.approx(2.0 / 3)
    assert means["NoC@90"] == 3
    assert not {"iou_click_2", "iou_click_4", "iou_click_5"} & means.keys()


def test_without_clicks_there_are_no_scores_of_clicks():
    metric = SegmentationMetrics()
    scores = update(metric, rows("#."), rows("#."))
    assert not [name for name in (*scores, *metric.compute().scores) if "click" in name]


def test_two_processes_give_exactly_the_scores_of_one(two_processes):
    alone = tuple(scored())
    assert alone[0]["objects"] == sum(COUNTS)
    assert alone[1]["class"]["absent"]["objects"] == 0
    for result in two_processes("metric"):
        assert result == alone


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_on_a_gpu_give_the_scores_of_the_cpu():
    tensors = square(4, 4, 2, 2), square(4, 4, 2, 3), torch.ones(1), ONE, square(8, 1, 0, 2)[0], torch.rand(1, 3)
    results = []
    for device in ("cpu", "cuda"):
        metric = SegmentationMetrics([BoundaryIou(), SurfaceDistance()])
        scores = metric.update("image", *(tensor.to(device) for tensor in tensors))
        results.append(({name: value.tolist() for name, value in scores.items()}, metric.compute().scores))
    assert str(results[0]) == str(results[1])  # as text, in which nan is nan
