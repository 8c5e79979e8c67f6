import math

import numpy as np
import pytest
import torch

from sam_ft.metrics.average_precision import encode_masks
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy, accuracy
from tests.support.masks import rows

NONE = np.zeros(2, bool)


def test_a_quotient_by_hand():
    # 1 hit, 1 prediction without gt, 2 gt without prediction
    ious = np.array([[0.8, 0.0, 0.1], [0.0, 0.4, 0.0]])
    assert accuracy(ious, 0.5, NONE) == 1 / 4
    assert accuracy(ious, 0.4, NONE) == 2 / 3
    assert accuracy(ious, 0.85, NONE) == 0


def test_as_many_pairs_as_possible_are_matched():
    # the first prediction must take the second object, or the second prediction finds none
    assert accuracy(np.array([[0.9, 0.6], [0.7, 0.0]]), 0.5, NONE) == 1


def test_an_ignored_prediction_counts_only_if_it_hits():
    ious = np.array([[0.9], [0.0]])
    assert accuracy(ious, 0.5, np.array([False, True])) == 1
    assert accuracy(ious, 0.5, np.array([True, False])) == 1 / 2


def test_means_over_images():
    metric = SegmentationAccuracy()
    one, other = encode_masks(rows("##..")), encode_masks(rows("..##"))
    metric.update("hit", one, one)
    metric.update("miss", one, other)
    metric.update("nothing", [], [])
    metric.update("none of it found", [], one)
    assert metric.compute() == {"sa50": 1 / 3, "sa75": 1 / 3, "msa": pytest.approx(1 / 3)}


def test_an_iou_of_three_quarters_reaches_six_of_ten_thresholds():
    metric = SegmentationAccuracy()
    metric.update("one", encode_masks(rows("###.")), encode_masks(rows("####")))
    assert metric.compute() == {"sa50": 1, "sa75": 1, "msa": pytest.approx(0.6)}


def test_a_prediction_in_an_ignored_region_is_no_false_positive():
    metric = SegmentationAccuracy()
    gt, other = encode_masks(rows("#...")), encode_masks(rows("..##"))
    metric.update("one", gt + other, gt, torch.tensor([[False, False, False, True]]))
    assert metric.compute()["sa50"] == 1


def test_no_images_have_no_score():
    assert all(math.isnan(value) for value in SegmentationAccuracy().compute().values())
