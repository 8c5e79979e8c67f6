"""Training with clicks, and evaluating with many prompts and with none, through the scripts."""

import csv
import json

import pytest
import yaml

from tests.conftest import of
from tests.support.cli import SMALL, call_once
from tests.support.reference import LITE_MEDSAM_WEIGHTS

PROMPTS = ["box", "point_1", "point_3", "clicks_5", "mask"]


@pytest.fixture(scope="module")
def scored(blobs, tmp_path_factory):
    """A run that was trained with clicks and evaluated with everything."""
    run = tmp_path_factory.mktemp("clicks") / "run"
    arguments = ["prompt@train_prompt=iterative", "train_prompt.rounds=4", "loss=sam", "epochs=1", "metric=boundary"]
    call_once("train.py", *SMALL, *of(blobs), *arguments, f"run_dir={run}")
    listed = f"eval_prompts=[{','.join(PROMPTS)}]"
    return run, call_once("evaluate.py", f"run={run}", listed, "amg=true", "amg_points_per_side=4", "workers=0")


@pytest.mark.slow
def test_all_prompts_are_scored_zero_shot_and_tuned_side_by_side(scored):
    run, done = scored
    scores = json.loads((run / "evaluation/scores.json").read_text())
    assert list(scores["prompts"]) == PROMPTS
    for name, both in scores["prompts"].items():
        assert both["zero_shot"]["objects"] == both["tuned"]["objects"] == 9, name
        # a mask alone these weights do not understand, neither before nor after
        assert name == "mask" or both["zero_shot"]["iou"] != both["tuned"]["iou"], name
        assert "boundary_iou" in both["tuned"]
    assert scores["tuned"] == scores["prompts"]["box"]["tuned"]  # the first prompt is the one of a plain evaluation
    assert {"iou_click_1", "iou_click_3", "iou_click_5", "NoC@90"} <= scores["prompts"]["clicks_5"]["tuned"].keys()
    assert "iou_click_1" not in scores["tuned"]
    table = done.out[done.out.rindex("prompt  ") :]
    assert [line.split()[0] for line in table.splitlines()[2:7]] == PROMPTS


def test_the_first_click_is_the_point_in_the_middle(scored):
    scores = json.loads((scored[0] / "evaluation/scores.json").read_text())["prompts"]
    for which in ("zero_shot", "tuned"):
        assert scores["clicks_5"][which]["iou_click_1"] == pytest.approx(scores["point_1"][which]["iou"], abs=1e-9)
        assert scores["clicks_5"][which]["iou_click_5"] == pytest.approx(scores["clicks_5"][which]["iou"], abs=1e-9)


def test_masks_without_prompts_are_scored_too(scored):
    scores = json.loads((scored[0] / "evaluation/scores.json").read_text())["amg"]
    assert (
        {"ap", "ap50", "ap75", "masks_per_image", "highest_pred_iou"}
        == scores["tuned"].keys()
        == scores["zero_shot"].keys()
    )


def test_each_row_of_the_table_of_objects_has_a_prompt(scored):
    with open(scored[0] / "evaluation/objects.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["prompt"] for row in rows] == [name for name in PROMPTS for _ in range(9)]
    assert all(bool(row["tuned_iou_click_3"]) == (row["prompt"] == "clicks_5") for row in rows)


def test_what_clicks_reach_is_trained_and_boxes_alone_train_less(scored, run):
    assert yaml.safe_load((scored[0] / "config.yaml").read_text())["train_prompt"]["rounds"] == 4
    sizes = [(path / "checkpoints/best.safetensors").stat().st_size for path in (scored[0], run)]
    assert sizes[0] > sizes[1] + 1e6  # the three heads of ambiguous points


def test_a_prompt_that_does_not_exist_is_named_with_those_that_do(messages, run, cli):
    done = cli("evaluate.py", f"run={run}", "eval_prompts=[box,point_9]")
    messages.refused(done, 2, "point_9", "point_3")


def test_values_of_the_run_are_changed_with_hydras_plus(run, cli, tmp_path):
    part = "{_target_: sam_ft.metrics.BoundaryIou, dilation_ratio: 0.1}"
    changed = ["+eval_prompt.scale=1.5", "+cache.dtype=float32", f"+metric.extra_metrics=[{part}]"]
    base = f"+model.checkpoint={LITE_MEDSAM_WEIGHTS}"
    done = cli("evaluate.py", f"run={run}", *changed, base, f"output={tmp_path}", "workers=0", "pictures=0")
    assert done.code == 0, done.err
    tuned = json.loads((tmp_path / "scores.json").read_text())["tuned"]
    assert "boundary_iou" in tuned
    loose = tuned["iou"]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["val/iou"]
    assert loose != pytest.approx(last, abs=1e-4)


def test_other_data_is_scored_into_a_folder_of_its_own_that_says_which(scored, blobs, cli, tmp_path):
    before = (scored[0] / "evaluation/scores.json").read_text()
    run, other = scored[0], tmp_path / "other"
    other.symlink_to(blobs)
    done = cli("evaluate.py", f"run={run}", f"+data.root={other}", "split=train", "workers=0", "pictures=0")
    assert done.code == 0, done.err
    scores = json.loads((run / "evaluation-other-train/scores.json").read_text())
    assert scores["data"]["root"] == str(other)
    assert (run / "evaluation/scores.json").read_text() == before
