"""A mix of the best weights with those of zero-shot, in a run and after it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from sam_ft import build_model
from sam_ft.report.object_scores import read_object_scores
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.tensor_file import read_tensors
from tests.conftest import of
from tests.support.cli import SMALL
from tests.support.run_files import metrics_lines, validated

MIX = "mix=[0.25,0.5,0.75]"
TOO_FAST = ["epochs=1", "optimizer.lr=5e-4"]  # the best weights lie on the way to the epoch's
FAR_TOO_FAST = ["epochs=1", "optimizer.lr=2e-3"]  # those of the epoch are worse than zero-shot


def continued(run, blobs, directory, cli, *overrides):
    """Starts a copy of a finished run again; → its output."""
    if not directory.exists():
        shutil.copytree(run, directory)
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={directory}", *overrides)
    assert done.code == 0, done.err
    return done.out


@pytest.mark.slow
def test_a_finished_run_is_mixed_with_zero_shot_once(blobs, tmp_path, cli):
    run, directory, file = tmp_path / "run", tmp_path / "mixed", "checkpoints/best.safetensors"
    assert cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", *TOO_FAST).code == 0
    out = continued(run, blobs, directory, cli, *TOO_FAST, MIX)
    *before, row = metrics_lines(directory)
    assert before == metrics_lines(run)
    scores = {float(name.removeprefix("mix_iou/")): row[name] for name in row if name.startswith("mix_iou/")}
    zero_shot, epoch = (line["val/iou"] for line in validated(run))
    assert list(scores) == [0, 0.25, 0.5, 0.75, 1]
    assert (scores[0], scores[1]) == (zero_shot, epoch)
    share = max(scores, key=scores.get)
    assert 0 < share < 1
    assert f"mix={share:g}" in out
    result = read_tensors(directory / file)
    weights, metadata = result
    found = metadata["mix"], metadata["best"]["iou"], metadata["unmixed"]["iou"], metadata["zero_shot"]["iou"]
    assert found == (share, scores[share], epoch, zero_shot)
    base = build_model("lite_medsam", image_size=64).state_dict()
    for name, tensor in load_file(run / file).items():
        assert torch.equal(weights[name], base[name].lerp(tensor, share)), name
    assert cli("evaluate.py", f"run={directory}", "workers=0", "pictures=0", f"output={tmp_path}").code == 0
    assert json.loads((tmp_path / "scores.json").read_text())["tuned"]["iou"] == pytest.approx(scores[share], abs=1e-6)

    def as_before():
        tensors, now = read_tensors(directory / file)
        return now == metadata and all(torch.equal(tensor, weights[name]) for name, tensor in tensors.items())

    # Started again, it mixes no mix.
    for overrides in ([MIX], ["mix=[0.1]"], []):
        assert f"mix={share:g}" in continued(run, blobs, directory, cli, *TOO_FAST, *overrides)
        assert as_before()
        assert metrics_lines(directory) == [*before, row]
    # The state names the mix, but the weights were not written: as after a crash between the two.
    (directory / file).unlink()  # not in place: `weights` may be a map of the file
    shutil.copy(run / file, directory / file)
    assert not as_before()
    continued(run, blobs, directory, cli, *TOO_FAST, MIX)
    assert as_before()


@pytest.mark.slow
def test_the_last_epoch_is_mixed_if_none_beats_zero_shot(blobs, tmp_path, cli):
    run, mixed, file = tmp_path / "run", tmp_path / "mixed", "checkpoints/best.safetensors"
    assert cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", *FAR_TOO_FAST).code == 0
    zero_shot, epoch = (line["val/iou"] for line in validated(run))
    assert epoch < zero_shot
    out = continued(run, blobs, mixed, cli, *FAR_TOO_FAST, "mix=[0.1,0.3]")
    assert "mix=0.1 of epoch 1" in out
    row = metrics_lines(mixed)[-1]
    weights, metadata = read_tensors(mixed / file)
    assert row["mix_iou/0.1"] == metadata["best"]["iou"] > zero_shot == metadata["zero_shot"]["iou"]
    assert (metadata["mix"], metadata["mix_epoch"], metadata["best_epoch"]) == (0.1, 1, 0)
    base, last = read_tensors(run / file)[0], load_file(run / "checkpoints/last.safetensors")
    for name, tensor in weights.items():
        assert torch.equal(tensor, base[name].lerp(last[f"model.{name}"], 0.1)), name
    objects = read_object_scores(mixed / "objects.csv")
    assert objects.columns["tuned_iou"].mean() == pytest.approx(metadata["best"]["iou"])
    # Started again, it reports the same and mixes no mix.
    assert "mix=0.1 of epoch 1" in continued(run, blobs, mixed, cli, *FAR_TOO_FAST, "mix=[0.1,0.3]")
    assert metrics_lines(mixed)[-1] == row
    assert read_tensors(mixed / file)[1] == metadata


@pytest.mark.slow
@pytest.mark.parametrize("rate", [TOO_FAST, FAR_TOO_FAST], ids=["best_epoch", "last_epoch"])
def test_a_run_that_ends_before_the_mix_is_written_reports_the_weights_that_are(
    blobs, tmp_path, cli, monkeypatch, rate
):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", *rate]

    def interrupted(*arguments, **metadata):
        if metadata["mix"] is not None:
            raise KeyboardInterrupt
        save_partial_weights(*arguments, **metadata)

    with monkeypatch.context() as patch:
        patch.setattr("sam_ft.recipes.train.save_partial_weights", interrupted)
        assert cli("train.py", *arguments, "mix=[0.1,0.5]").code == 130
    path = tmp_path / "checkpoints/last.safetensors"
    assert read_tensors(path)[1]["mix"] is not None
    scores = read_tensors(tmp_path / "checkpoints/best.safetensors")[1]["best"]["iou"]
    done = cli("train.py", *arguments, "mix=null")
    assert done.code == 0, done.err
    assert "mix=" not in done.out
    tuned = next(line for line in done.out.splitlines() if "IoU (mean over objects)" in line).split("|")[2]
    assert float(tuned) == pytest.approx(scores, abs=1e-4)
    assert "mix=" in continued(tmp_path, blobs, tmp_path, cli, *rate, "mix=[0.1,0.5]")


@pytest.mark.slow
def test_a_mix_does_not_change_the_training_that_follows(run, blobs, tmp_path, cli):
    continued(run, blobs, tmp_path / "mixed", cli, "epochs=2", MIX)
    for name in ("mixed", "plain"):
        continued(run, blobs, tmp_path / name, cli, "epochs=3", "mix=null")
    one, other = (load_file(tmp_path / name / "checkpoints/last.safetensors") for name in ("mixed", "plain"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.slow
def test_the_average_is_mixed_in_the_same_run_that_trained_it(blobs, tmp_path, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", *TOO_FAST, "ema=0.9", MIX)
    assert done.code == 0, done.err
    weights, metadata = read_tensors(tmp_path / "checkpoints/best.safetensors")
    last = load_file(tmp_path / "checkpoints/last.safetensors")
    base = build_model("lite_medsam", image_size=64).state_dict()
    assert metadata["mix"] < 1
    for name, tensor in weights.items():
        assert torch.equal(tensor, base[name].lerp(last[f"ema.{name}"], metadata["mix"])), name
