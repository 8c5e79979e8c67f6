import math

import pytest
import torch

from sam_ft.metrics.average_precision import AveragePrecision, encode_masks
from sam_ft.utils import distributed


def strip(first, last):
    """(1, 20) bool, true in columns `first` to `last - 1`."""
    return ((torch.arange(20) >= first) & (torch.arange(20) < last))[None]


def add(metric, predicted, gt, ignore=None, name="image"):
    """predicted: {mask: score}"""
    rles = encode_masks(torch.stack(list(predicted))) if predicted else []
    gt = encode_masks(torch.stack(gt)) if gt else []
    metric.update(name, rles, torch.tensor(list(predicted.values())), gt, ignore)


def test_average_precision_of_three_masks_for_two_objects():
    metric = AveragePrecision()
    # a true positive; a duplicate of it; 3 of the 5 pixels of the second object, an IoU of 0.6
    add(metric, {strip(0, 5): 0.9, strip(0, 6): 0.8, strip(10, 13): 0.7}, [strip(0, 5), strip(10, 15)])
    # At 0.5: precision 1 up to recall 1/2, then 2/3; 51 of the 101 recall thresholds are at most 0.5.
    # At 0.55 and 0.60 too; above: precision 1 up to recall 1/2, and no mask goes further.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    expected = {"ap": 0.3 * low + 0.7 * high, "ap50": low, "ap75": high, "masks_per_image": 3}
    assert metric.compute() == pytest.approx(expected)
    metric.reset()
    assert math.isnan(metric.compute()["masks_per_image"])


def test_ap_is_zero_without_predictions_and_nan_without_gt():
    metric = AveragePrecision()
    add(metric, {}, [strip(0, 5)])
    assert metric.compute() == {"ap": 0, "ap50": 0, "ap75": 0, "masks_per_image": 0}
    metric.reset()
    add(metric, {strip(0, 5): 0.9}, [])
    assert metric.compute() == pytest.approx(
        {"ap": math.nan, "ap50": math.nan, "ap75": math.nan, "masks_per_image": 1}, nan_ok=True
    )


def test_a_mask_in_an_image_without_objects_is_a_false_positive():
    metric = AveragePrecision()
    add(metric, {strip(0, 5): 0.5}, [strip(0, 5)], name="a")
    add(metric, {strip(0, 5): 0.6}, [], name="b")
    assert metric.compute() == pytest.approx({"ap": 0.5, "ap50": 0.5, "ap75": 0.5, "masks_per_image": 1})


def test_an_unmatched_mask_in_the_ignored_region_counts_for_nothing():
    scores = {}
    # 6 of the mask's 10 pixels are ignored: enough up to 0.60, too few above
    for case, ignore in {"none": None, "empty": strip(0, 0), "region": strip(14, 20)}.items():
        metric = AveragePrecision()
        add(metric, {strip(10, 20): 0.9, strip(0, 5): 0.8}, [strip(0, 5)], ignore)
        scores[case] = metric.compute()
    assert (
        scores["none"] == scores["empty"] == pytest.approx({"ap": 0.5, "ap50": 0.5, "ap75": 0.5, "masks_per_image": 2})
    )
    assert scores["region"] == pytest.approx({"ap": 0.65, "ap50": 1, "ap75": 0.5, "masks_per_image": 2})


def test_there_is_no_limit_of_a_hundred_masks_as_in_coco():
    metric = AveragePrecision()
    false_positives = {strip(6, 20).clone(): 0.9 for _ in range(1100)}
    add(metric, {**false_positives, strip(0, 5): 0.1}, [strip(0, 5)])
    assert metric.compute()["ap50"] == pytest.approx(1 / 1101)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_equal_scores_rank_by_image_name_and_not_by_process(order, monkeypatch):
    processes = [AveragePrecision(), AveragePrecision()]
    for metric, name in zip(processes, order, strict=True):
        add(
            metric, {strip(0, 5) if name == "a" else strip(9, 15): 0.5}, [strip(0, 5)] if name == "a" else [], name=name
        )
    monkeypatch.setattr(distributed, "all_gather", lambda _: [image for m in processes for image in m._images])
    assert processes[0].compute() == processes[1].compute()
    assert processes[0].compute() == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "masks_per_image": 1})


def test_pycocotools_prints_nothing(capsys):
    test_average_precision_of_three_masks_for_two_objects()
    assert capsys.readouterr().out == ""
