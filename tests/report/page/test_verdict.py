import numpy as np
import pytest

from sam_ft.report.page.run_files import read_run_files
from sam_ft.report.page.verdict import compare, verdict_lines
from tests.support.pages_of_runs import write_run

BEFORE = np.array([0.5, 0.5, 0.5, 0.5])


def test_the_means_are_over_objects_and_the_interval_over_images():
    """Draws of 2 images of 2: both, the first twice, the second twice; the change is then 0.1, 0.2 or 0."""
    found = compare(["a", "a", "b", "b"], BEFORE, BEFORE + np.array([0.2, 0.2, 0, 0]))
    assert (found.before, found.after, found.images) == (0.5, pytest.approx(0.6), 2)
    assert (found.low, found.high) == (pytest.approx(0), pytest.approx(0.2))


def test_images_of_more_objects_count_more():
    found = compare(["a", "b", "b", "b"], BEFORE, BEFORE + np.array([0.4, 0, 0, 0]))
    assert found.after == pytest.approx(0.6)
    assert found.high == pytest.approx(0.4)


def test_the_interval_of_many_images_is_that_of_the_normal_distribution():
    gains = np.random.default_rng(1).normal(0.02, 0.1, 400)
    found = compare([f"{i}" for i in range(400)], np.full(400, 0.5), 0.5 + gains)
    half = 1.96 * gains.std() / 20
    assert (found.low, found.high) == (
        pytest.approx(gains.mean() - half, abs=1e-3),
        pytest.approx(gains.mean() + half, abs=1e-3),
    )


@pytest.mark.parametrize(
    ("gains", "outcome"),
    [
        ([0.1, 0.2, 0.1, 0.2], "helped"),
        ([-0.1, -0.2, -0.1, -0.2], "worse"),
        ([-0.1, 0.2, -0.1, 0.1], "No clear effect"),
    ],
)
def test_the_sentence_says_whether_training_helped_and_how_sure_that_is(messages, gains, outcome):
    found = compare(["a", "b", "c", "d"], BEFORE, BEFORE + np.array(gains))
    messages.check(found.sentence("box"), outcome, "4 images", f"{found.low:+.3f} to {found.high:+.3f}", "few images")


def test_a_single_image_says_nothing(messages):
    messages.check(compare(["a", "a", "a", "a"], BEFORE, BEFORE + 0.1).sentence("box"), "0.500 → 0.600", "single image")


def test_tiles_of_an_image_are_drawn_together(tmp_path):
    rows = [("a@0,0", 0, 100, 0.4, 0.6), ("a@0,90", 0, 100, 0.4, 0.6), ("b", 0, 100, 0.4, 0.7)]
    (line, *_) = verdict_lines(read_run_files(write_run(tmp_path, rows)))
    assert "2 images" in line


def test_a_run_that_kept_the_weights_from_before_says_so(messages, tmp_path):
    (line,) = verdict_lines(read_run_files(write_run(tmp_path, best_epoch=0)))
    messages.check(line, "not help", "iou 0.400", "2 images")


def test_without_the_scores_of_objects_there_is_no_interval(messages, tmp_path):
    line, chosen = verdict_lines(read_run_files(write_run(tmp_path, rows=())))
    messages.check(line, "0.400 → 0.650", "2 images", "no interval")
    messages.check(chosen, "best epoch")


@pytest.mark.parametrize(("score", "outcome"), [(0.5, "better than"), (0.2, "no better than")])
def test_a_head_has_a_sentence_of_its_own(messages, tmp_path, score, outcome):
    found = read_run_files(write_run(tmp_path, head_scores={"msa": score}, baseline={"msa": 0.3}))
    *_, line = verdict_lines(found)
    messages.check(line, outcome, f"0.300 → {score:.3f}")


def test_a_head_that_was_trained_alone_changes_no_prompted_mask(messages, tmp_path):
    heads = {"head_scores": {"msa": 0.5}, "baseline": {"msa": 0.3}}
    first, *_ = verdict_lines(read_run_files(write_run(tmp_path, settings={"train_only": "head"}, **heads)))
    messages.check(first, "head alone")
    assert "IoU" not in first
