import math

import pytest
import torch

from sam_ft.metrics import IouDice


def rows(*lines):
    return torch.tensor([[[c == "#" for c in line] for line in lines]])


def test_scores_are_those_worked_out_by_hand():
    metric = IouDice()
    own = metric.update(rows("##..", "...."), rows(".##.", "...."), torch.tensor([0.5]))
    assert own["iou"].item() == pytest.approx(1 / 3)
    assert own["dice"].item() == pytest.approx(1 / 2)
    scores = metric.compute()
    assert scores["iou"] == pytest.approx(1 / 3)
    assert scores["iou_guess_error"] == pytest.approx(0.5 - 1 / 3)


def test_means_over_objects_and_over_images_differ_when_images_hold_different_numbers():
    metric = IouDice()
    right, wrong = rows("#."), rows(".#")
    metric.update(torch.cat([right, right, right]), torch.cat([right, right, right]), torch.ones(3))
    metric.update(wrong, right, torch.ones(1))
    scores = metric.compute()
    assert scores["iou"] == pytest.approx(3 / 4)
    assert scores["iou_per_image"] == pytest.approx(1 / 2)
    assert (scores["objects"], scores["images"]) == (4, 2)


def test_an_image_without_objects_counts_for_nothing():
    metric = IouDice()
    none = torch.zeros(0, 2, 2, dtype=torch.bool)
    assert len(metric.update(none, none, torch.zeros(0))["iou"]) == 0
    assert metric.compute()["images"] == 0


def test_no_objects_at_all_is_nan_and_never_better():
    scores = IouDice().compute()
    assert math.isnan(scores["iou"])
    assert not scores["iou"] > 0.0


def test_an_empty_prediction_scores_zero():
    metric = IouDice()
    metric.update(rows(".."), rows("#."), torch.zeros(1))
    assert metric.compute()["dice"] == 0


def test_reset_forgets():
    metric = IouDice()
    metric.update(rows("#."), rows("#."), torch.ones(1))
    metric.reset()
    assert metric.compute()["objects"] == 0
