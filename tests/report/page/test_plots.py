import re

import numpy as np
import pytest

from sam_ft.report.object_scores import ObjectScores
from sam_ft.report.page.plots import MOST_POINTS, binned, draw_curves, draw_iou_by_size, draw_reliability, draw_setting


def test_bins_have_the_means_of_their_objects_and_nearly_empty_ones_are_left_out():
    x = np.array([0.01, 0.03, 0.02, 0.04, 0.05, 0.5, 1.0, 0.95, 0.95, 0.95, 0.95])
    y = np.array([0.1, 0.1, 0.2, 0.3, 0.3, 0.9, 0.5, 0.5, 0.5, 0.5, 1.0])
    means = binned(x, y, np.linspace(0, 1, 11))
    assert means == (pytest.approx([0.03, 0.96]), pytest.approx([0.2, 0.6]))


def test_bins_without_a_width_hold_all():
    assert binned(np.full(6, 3.0), np.arange(6.0), np.array([3.0])) == ([3.0], [2.5])


def rows(count):
    steps = [{"step": step, "train/loss": 1 / step, "lr": 1e-4} for step in range(1, count + 1)]
    return steps, [{"epoch": 0, "val/iou": 0.4}, {"epoch": 1, "val/iou": None}, {"epoch": 2, "val/iou": 0.6}]


def test_curves_show_loss_score_and_rate_and_are_small_for_many_steps():
    few, many = (draw_curves(*rows(count), "iou") for count in (20, 50 * MOST_POINTS))
    assert [caption.split()[0] for caption in few] == ["Loss", "iou", "Learning"]
    assert all(svg.startswith("<svg") for svg in few.values())
    assert sum(map(len, many.values())) < 300_000


def test_curves_without_numbers_are_left_out():
    assert draw_curves([], [], "iou") == {}
    assert draw_curves([{"step": 1, "train/loss": None}], [], "iou") == {}


def test_a_plot_has_texts_and_no_address_and_a_dollar_is_no_formula():
    svg = draw_setting("loss <b> $x", ["$a$", "<script>", "$a$"], [0.1, 0.2, 0.3], "iou")
    assert "&lt;script&gt;" in svg
    assert "<script>" not in svg
    assert "$a$" in svg
    assert not re.search(r"(?:href|src)=\"(?!#)", svg)


@pytest.mark.parametrize("values", [["1e-5", "1e-3", "1e-4"], ["0", "1", "2"], ["null", "4", "4"], ["8", "8", "8"]])
def test_settings_of_any_kind_have_a_plot(values):
    assert "<svg" in draw_setting("optimizer.lr", values, [0.1, 0.3, 0.2], "iou")


@pytest.mark.parametrize("count", [1, 3, 3 * MOST_POINTS])
def test_objects_of_any_number_have_plots(count):
    scores = np.linspace(0, 1, count)
    names = [f"{model}_{score}" for model in ("zero_shot", "tuned") for score in ("iou", "pred_iou")]
    columns = {"area": np.arange(1.0, count + 1), **dict.fromkeys(names, scores)}
    objects = ObjectScores(["a"] * count, columns)
    plots = [draw_reliability(objects), draw_iou_by_size(objects)]
    assert all("zero-shot" in svg and "tuned" in svg for svg in plots)
    assert sum(map(len, plots)) < 600_000


def labels(svg):
    return set(re.findall(r"<text[^>]*>([^<]+)</text>", svg))


def test_the_axis_of_sizes_has_several_labels():
    sides = np.linspace(4.5, 60, 50)
    columns = {"area": sides**2, "tuned_iou": np.full(50, 0.5), "tuned_pred_iou": np.full(50, 0.5)}
    assert labels(draw_iou_by_size(ObjectScores(["a"] * 50, columns))) >= {"5", "10", "20", "50"}


def test_each_learning_rate_of_a_sweep_has_its_label():
    svg = draw_setting("optimizer.lr", ["3e-05", "0.0001", "0.001"], [0.1, 0.2, 0.3], "iou")
    assert labels(svg) >= {"3e\N{MINUS SIGN}05", "0.0001", "0.001"}
