import math

import pytest
from scipy.stats import spearmanr

from sam_ft.metrics.aggregate import aggregate, spearman


def image(**columns):
    """One image's columns; omitted ones do not matter."""
    count = len(columns["iou"])
    filler = {name: [0.0] * count for name in ("dice", "precision", "recall", "pred_iou")}
    return {"label": [1] * count, "area": [100] * count, **filler, **columns}


def test_classes_have_equal_weight_whatever_their_number_of_objects():
    images = [
        image(iou=[0.2, 0.4, 0.6], dice=[0.3, 0.5, 0.7], label=[1, 1, 1]),
        image(iou=[1.0], dice=[1.0], label=[2]),
    ]
    scores, groups = aggregate(images, (), {1: "cell", 2: "nucleus"})
    assert scores["iou"] == pytest.approx(2.2 / 4)
    assert scores["iou_per_image"] == scores["iou_per_class"] == pytest.approx((0.4 + 1) / 2)
    assert scores["dice_per_class"] == pytest.approx((0.5 + 1) / 2)
    assert groups["class"]["cell"] == {"objects": 3, "iou": pytest.approx(0.4), "dice": pytest.approx(0.5)}


def test_a_class_without_objects_is_reported_and_not_averaged():
    images = [image(iou=[0.5, 0.75], label=[1, 3], nsd=[0.1, 0.2])]
    scores, groups = aggregate(images, ["nsd"], {1: "cell", 2: "nucleus", 3: "debris"})
    assert list(groups["class"]) == ["cell", "nucleus", "debris"]
    assert groups["class"]["nucleus"] == {"objects": 0, "iou": None, "dice": None, "nsd": None}
    assert groups["class"]["debris"] == {"objects": 1, "iou": 0.75, "dice": 0.0, "nsd": 0.2}
    assert scores["iou_per_class"] == 0.625


def test_without_classes_there_are_no_scores_of_classes():
    scores, groups = aggregate([image(iou=[0.5], label=[7])], (), {})
    assert "iou_per_class" not in scores
    assert groups["class"] == {}


def test_sizes_are_those_of_coco_and_empty_ones_are_left_out():
    areas = [1, 32 * 32 - 1, 96 * 96, 10**7]
    groups = aggregate([image(iou=[0.2, 0.4, 0.6, 1.0], area=areas)], (), {}).groups["size"]
    assert groups == {
        "small": {"objects": 2, "iou": pytest.approx(0.3), "dice": 0},
        "large": {"objects": 2, "iou": pytest.approx(0.8), "dice": 0},
    }
    assert list(aggregate([image(iou=[0.5], area=[32 * 32])], (), {}).groups["size"]) == ["medium"]


def test_a_mean_does_not_depend_on_the_order():
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1  # not by sum(), which compensates from Python 3.12 on
    values = [0.1, 0.2, 0.3]
    one, other = (aggregate([image(iou=[v], pred_iou=[v / 3]) for v in vs], (), {}) for vs in (values, values[::-1]))
    assert one == other


def test_values_in_the_same_order_have_rank_correlation_one():
    assert spearman([0.1, 0.2, 0.9], [0.5, 0.6, 0.7]) == 1
    assert spearman([0.9, 0.2, 0.1], [0.5, 0.6, 0.7]) == -1
    # ranks 1, 2, 3 and 3, 1, 2: 1 - 6 (4 + 1 + 1) / (3 (9 - 1))
    assert spearman([0.1, 0.2, 0.9], [0.7, 0.5, 0.6]) == pytest.approx(-0.5)


def test_rank_correlation_equals_that_of_scipy_also_with_ties():
    a = [0.3, 0.3, 0.8, 0.1, 0.8, 0.8, 0.2, 0.95]
    b = [0.0, 0.5, 0.5, 0.0, 0.9, 0.4, 0.0, 0.7]
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b"), [([], []), ([0.5], [0.5]), ([0.5, 0.5], [0.1, 0.2]), ([0.1, 0.2], [1.0, 1.0]), ([math.nan, 1], [0, 1])]
)
def test_rank_correlation_is_nan_where_it_is_undefined(a, b):
    assert math.isnan(spearman(a, b))
