"""A head that finds objects without prompts: trained beside the decoder or alone, and scored."""

import json
import shutil
import sys
from dataclasses import asdict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sam_ft import Predictor
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.models.heads import in_head
from sam_ft.training.state_file import save_training_state
from sam_ft.training.tensor_file import read_tensors, write_tensors
from tests.conftest import of
from tests.support.blobs import Blobs
from tests.support.cli import SMALL, start

FAST = ["head=instances", "epochs=3", "batch_size=1"]
BEST = "checkpoints/best.safetensors"


@pytest.fixture(scope="module")
def headed(blobs, tmp_path_factory):
    directory = tmp_path_factory.mktemp("headed") / "run"
    done = start(sys.executable, "train.py", *SMALL, *of(blobs), *FAST, "monitor=msa", f"run_dir={directory}")
    assert done.code == 0, done.err
    return directory


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_epoch_of_the_best_head_is_kept_with_options_by_training_images(headed):
    scores = {row["epoch"]: row["val/msa"] for row in rows(headed) if "val/msa" in row}
    _, metadata = read_tensors(headed / BEST)
    assert metadata["best"]["msa"] == max(scores.values()) > 0
    assert metadata["best_epoch"] == max(scores, key=scores.get)
    options = SegmentOptions.from_notes(metadata)
    assert asdict(options).items() <= metadata.items()
    last = rows(headed)[-1]
    assert last["head/msa"] == metadata["head_scores"]["msa"]
    assert 0 < last["baseline/msa"] < 1


@pytest.mark.slow
def test_a_start_after_the_end_searches_nothing_and_one_before_finds_the_same(
    headed, blobs, tmp_path, cli, monkeypatch
):
    again = tmp_path / "again"
    shutil.copytree(headed, again)
    command = [*SMALL, *of(blobs), *FAST, "monitor=msa", f"run_dir={again}"]
    saves = []
    monkeypatch.setattr("sam_ft.training.state.save_training_state", lambda *state: saves.append(state))
    assert cli("train.py", *command).code == 0
    assert not saves
    monkeypatch.setattr("sam_ft.training.state.save_training_state", save_training_state)
    # As if the run had been killed after its state was written, and before its options were.
    tensors, metadata = read_tensors(again / BEST)
    kept = {
        key: value
        for key, value in metadata.items()
        if key not in ("thresholds", "refine", "head_scores", "format_version")
    }
    write_tensors(again / BEST, tensors, kept)
    assert cli("train.py", *command).code == 0
    (tensors, found), (expected, options) = (read_tensors(path / BEST) for path in (again, headed))
    assert found == options
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in expected.items())
    assert rows(again)[-1] == rows(headed)[-1]


@pytest.mark.slow
def test_a_run_in_tiles_is_scored_on_them_and_its_head_on_whole_images(blobs, tmp_path, cli):
    run = tmp_path / "tiled"
    done = cli("train.py", *SMALL, *of(blobs), *FAST, "data.tile=40", "epochs=1", f"run_dir={run}")
    assert done.code == 0, done.err
    assert "tiles of 40 px" in done.out
    metadata = read_tensors(run / BEST)[1]
    assert metadata["tile"] == 40
    settings = (run / "config.yaml").read_text()
    for tile in ("40", "auto"):  # auto: that of the training
        (run / "config.yaml").write_text(settings.replace("tile: 40", f"tile: {tile}"))
        evaluated = cli("evaluate.py", f"run={run}", "workers=0", "pictures=0", f"output={tmp_path}", "auto=true")
        assert evaluated.code == 0, evaluated.err
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert scores["tuned"]["iou"] == pytest.approx(metadata["best"]["iou"], abs=1e-6)
        assert scores["auto"]["head"]["msa"] == metadata["head_scores"]["msa"]


def test_an_evaluation_scores_what_predict_finds(headed, tmp_path, cli):
    done = cli("evaluate.py", f"run={headed}", "auto=true", "workers=0", "pictures=0", f"output={tmp_path}")
    assert done.code == 0, done.err
    scores = json.loads((tmp_path / "scores.json").read_text())["auto"]
    last = rows(headed)[-1]
    assert scores["head"]["msa"] == pytest.approx(last["head/msa"], abs=1e-6)
    assert scores["baseline"]["msa"] == pytest.approx(last["baseline/msa"], abs=1e-6)


def test_an_evaluation_without_a_head_is_refused(messages, run, cli):
    done = cli("evaluate.py", f"run={run}", "auto=true")
    assert done.code == 2
    messages.check(done.err, "auto=true", "head=instances")


@pytest.mark.slow
def test_a_head_alone_leaves_the_masks_of_prompts_as_they_are(run, blobs, tmp_path, cli):
    directory = tmp_path / "head"
    alone = ["train_only=head", f"init={run}", f"run_dir={directory}"]
    done = cli("train.py", *SMALL, *of(blobs), *FAST, *alone)
    assert done.code == 0, done.err
    before, after = load_file(run / BEST), load_file(directory / BEST)
    assert before.keys() == {name for name in after if not in_head(name)} < after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    sample = Blobs([3])[0]
    image = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
    boxes = [[4, 4, 30, 30], [10, 12, 40, 50]]
    there, here = (Predictor.from_run(path).predict(image, boxes=boxes) for path in (run, directory))
    assert all(np.array_equal(one, other) for one, other in zip(there, here, strict=True))
    assert "The head alone was trained" in (directory / "report.html").read_text()
    scored = [row for row in rows(directory) if "val/msa" in row]
    assert len({row["val/iou"] for row in scored}) == 1
    assert max(row["val/msa"] for row in scored) > 0


@pytest.mark.parametrize(
    "overrides",
    [["train_only=head", "head=instances"], ["train_only=decoder"], ["train_only=head", "init=x"], ["monitor=msa"]],
    ids=" ".join,
)
def test_settings_of_a_head_that_do_not_fit_are_refused(messages, blobs, tmp_path, cli, overrides):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", *overrides)
    assert done.code == 2
    messages.check(done.err, overrides[0].split("=")[0])
