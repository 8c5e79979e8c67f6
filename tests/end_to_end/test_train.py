"""The main job through its scripts, on the real LiteMedSAM weights at 64 pixels."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file

from sam_ft import build_model
from sam_ft.report.object_scores import read_object_scores
from sam_ft.training.state_file import save_training_state
from tests.conftest import of
from tests.support.blobs import write_folder
from tests.support.cli import SMALL, start, torchrun
from tests.support.run_files import metrics_lines, validated
from tests.training.test_loggers import scalars, written


def test_a_run_leaves_its_config_log_numbers_and_a_small_file(run):
    files = {"config.yaml", "train.log", "metrics.jsonl", "objects.csv", "facts.json", "report.html", "checkpoints"}
    assert files <= {path.name for path in run.iterdir()}
    cfg = OmegaConf.load(run / "config.yaml")
    assert cfg.model.image_size == 64
    best = load_file(run / "checkpoints/best.safetensors")
    assert all(name.startswith("mask_decoder.") for name in best)
    assert sum(tensor.numel() for tensor in best.values()) == 3_638_916
    assert (run / "checkpoints/best.safetensors").stat().st_size < 20e6


def test_zero_shot_is_scored_before_the_first_step(run):
    first = metrics_lines(run)[0]
    assert first["step"] == 0
    assert first["val/objects"] == 9
    steps = [line["step"] for line in metrics_lines(run) if "train/loss" in line]
    assert steps == [1, 2, 3, 4]  # 5 images with objects in batches of 4, two epochs


def test_the_log_holds_loss_rate_norm_metrics_and_throughput(run):
    step, epoch = metrics_lines(run)[1], metrics_lines(run)[3]
    assert {"train/loss", "train/bce", "train/iou_head", "train/grad_norm", "lr"} <= step.keys()
    assert {"val/iou", "val/dice", "val/iou_per_image", "epoch/objects_per_second"} <= epoch.keys()


def test_images_without_objects_are_counted_and_skipped(run):
    assert "train: 6 images with 15 objects, 1 of them without any (skipped)" in (run / "train.log").read_text()


def test_the_same_command_again_trains_nothing_and_says_what_came_out(messages, run, blobs, cli):
    before = metrics_lines(run)
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", "epochs=2")
    assert done.code == 0, done.err
    messages.line(done.out, "2 epochs")
    assert "zero-shot" in done.out
    assert metrics_lines(run) == before


def test_a_run_from_before_an_option_was_there_goes_on(messages, run, blobs, tmp_path, cli):
    shutil.copytree(run, tmp_path / "old")
    path = tmp_path / "old/config.yaml"
    settings = path.read_text().replace(str(run), str(tmp_path / "old"))
    path.write_text(settings.replace("  lr_factors: []\n", ""))
    assert "lr_factors" in settings
    assert "lr_factors" not in path.read_text()
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'old'}", "epochs=2")
    assert done.code == 0, done.err
    messages.line(done.out, "2 epochs")


@pytest.mark.parametrize("ema", [pytest.param("null", marks=pytest.mark.slow), "0.9"])
def test_a_resumed_run_equals_an_uninterrupted_one(messages, blobs, tmp_path, cli, monkeypatch, ema):
    arguments = [*SMALL, *of(blobs), "patience=null", "epochs=3", f"ema={ema}"]
    assert cli("train.py", *arguments, f"run_dir={tmp_path / 'whole'}").code == 0

    saved = []

    def interrupted(*state):
        if len(saved) == 2:  # before the first step, and after the first epoch
            raise KeyboardInterrupt  # at the end of the second epoch, of which nothing is left then
        saved.append(save_training_state(*state))

    monkeypatch.setattr("sam_ft.training.state.save_training_state", interrupted)
    done = cli("train.py", *arguments, f"run_dir={tmp_path / 'halves'}")
    assert done.code == 130
    messages.check(done.err, "epoch 1")
    monkeypatch.setattr("sam_ft.training.state.save_training_state", save_training_state)
    done = cli("train.py", *arguments, f"run_dir={tmp_path / 'halves'}")
    assert done.code == 0, done.err
    messages.line(done.out, "epoch 1 of 3")
    for file in ("last", "best"):
        whole, halves = (load_file(tmp_path / name / f"checkpoints/{file}.safetensors") for name in ("whole", "halves"))
        assert whole.keys() == halves.keys()
        assert all(torch.equal(whole[name], halves[name]) for name in whole)
    timed = {"epoch/objects_per_second", "epoch/seconds", "epoch/encode_seconds", "epoch/peak_gb"}

    def untimed(name):
        return [{k: v for k, v in line.items() if k not in timed} for line in metrics_lines(tmp_path / name)]

    assert untimed("whole") == untimed("halves")
    whole, halves = ((tmp_path / name / "objects.csv").read_text() for name in ("whole", "halves"))
    assert whole == halves


@pytest.mark.slow
def test_the_average_of_the_weights_is_scored_and_kept_beside_those_that_train(run, blobs, tmp_path, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", "epochs=2", "ema=0.9")
    assert done.code == 0, done.err
    plain, averaged = (load_file(path / "checkpoints/last.safetensors") for path in (run, tmp_path / "run"))
    averages = {name.removeprefix("ema."): tensor for name, tensor in averaged.items() if name.startswith("ema.")}
    assert averaged.keys() == plain.keys() | {f"ema.{name}" for name in averages}
    assert all(torch.equal(averaged[name], tensor) for name, tensor in plain.items())  # it trains as without
    best = load_file(tmp_path / "run/checkpoints/best.safetensors")
    assert "best epoch: 2 of 2" in done.out
    assert best.keys() == averages.keys()
    assert all(torch.equal(tensor, averages[name]) for name, tensor in best.items())
    assert validated(tmp_path / "run")[1:] != validated(run)[1:]
    assert cli("evaluate.py", f"run={tmp_path / 'run'}", "workers=0", "pictures=0", f"output={tmp_path}").code == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["tuned"]["iou"] == pytest.approx(validated(tmp_path / "run")[2]["val/iou"], abs=1e-6)


@pytest.mark.slow
def test_more_epochs_after_the_end_train_on_at_the_final_rate(blobs, tmp_path, cli):
    # As with 20 epochs and then 30: the cosine is not stretched, so the rate does not rise again.
    for epochs in (2, 3):
        done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", f"epochs={epochs}", "patience=null")
        assert done.code == 0, done.err
    rates = [line["lr"] for line in metrics_lines(tmp_path / "run") if "lr" in line]
    steps = len(rates) // 3
    assert rates[-steps:] == [rates[2 * steps - 1]] * steps
    assert rates[-1] < max(rates) / 20


@pytest.mark.slow
def test_worker_processes_change_nothing(run, blobs, tmp_path, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=2", "workers=2")
    assert done.code == 0, done.err
    assert validated(tmp_path) == validated(run)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_truncated_image_is_named_in_one_line_by_a_worker_too(messages, tmp_path, cli, split):
    folder = write_folder(tmp_path / "cells", [2, 3, 1])
    image = folder / f"images/blobs_{0 if split == 'train' else 2}.png"
    image.write_bytes(image.read_bytes()[:-200])
    done = cli("train.py", *SMALL, *of(folder), f"run_dir={tmp_path / 'run'}", "epochs=1", "workers=2")
    messages.refused(done, 3, image.name)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_image_is_left_out_where_that_is_asked_for(messages, tmp_path, cli, split):
    folder = write_folder(tmp_path / "cells", [2, 3, 1, 2, 1, 2])
    damaged = folder / f"images/blobs_{0 if split == 'train' else 4}.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    done = cli("train.py", *SMALL, *of(folder), f"run_dir={tmp_path / 'run'}", "epochs=1", "data.on_bad=skip")
    assert done.code == 0, done.err
    log = (tmp_path / "run/train.log").read_text()
    messages.line(log, f"1 of {4 if split == 'train' else 2} images", "data.on_bad=skip")
    assert damaged.name in log
    assert metrics_lines(tmp_path / "run")[-1]["val/objects"] == (3 if split == "train" else 2)
    done = cli("evaluate.py", f"run={tmp_path / 'run'}", f"split={split}", "workers=0", "pictures=0")
    assert done.code == 0, done.err


def test_other_settings_in_the_same_directory_are_refused(messages, run, blobs, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", "optimizer.lr=1e-3")
    messages.refused(done, 2, "optimizer.lr: ", " 0.0001 ", " 0.001 ", "overwrite=true")


@pytest.mark.slow
def test_a_run_that_never_beats_zero_shot_says_so_and_keeps_the_old_weights(messages, blobs, tmp_path, cli):
    # a rate that wrecks the decoder at the first step
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=3", "patience=1", "optimizer.lr=1.0", "pictures=1"]
    done = cli("train.py", *arguments, "mix=[0.5]")
    assert done.code == 0, done.err
    messages.line(done.out, "No epoch", "zero-shot", "iou")
    messages.line(done.out, "mix: ", "zero-shot")
    messages.line(done.out, "early")
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"zero_shot.png", "objects"}
    assert "did not help" in (tmp_path / "report.html").read_text()
    kept = load_file(tmp_path / "checkpoints/best.safetensors")
    base = build_model("lite_medsam", image_size=64).state_dict()
    assert all(torch.equal(tensor, base[name]) for name, tensor in kept.items())


@pytest.mark.slow
def test_classes_have_a_table_of_their_own_at_the_end_and_when_the_run_is_asked_again(blobs, tmp_path, cli):
    given = ["data=folder", f"data.root={blobs}", "data.objects=classes", "data.classes={cell: 255, stone: 7}"]
    for _ in range(2):
        done = cli("train.py", *SMALL, *given, f"run_dir={tmp_path}", "epochs=1")
        assert done.code == 0, done.err
        (row,) = (line.split("|") for line in done.out.splitlines() if line.startswith("  cell "))
        assert int(row[1]) == 3
        assert float(row[2]) == pytest.approx(metrics_lines(tmp_path)[0]["val_class/cell"], abs=1e-4)
        assert "  absent: stone\n" in done.out


@pytest.mark.slow
def test_pictures_and_several_trackers_at_once(blobs, tmp_path, cli):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=1", "pictures=2"]
    arguments += ["logger=[wandb,tensorboard]", "logger.wandb.project=blobs", "logger.tensorboard.pictures=false"]
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    assert "wandb: offline" in done.out
    picture = np.asarray(Image.open(tmp_path / "samples/epoch_001.png"))
    assert picture.shape[0] > 300
    assert np.asarray(Image.open(tmp_path / "samples/zero_shot.png")).shape[0] > 300
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert scalars(tmp_path) == written(tmp_path)


@pytest.mark.slow
def test_two_processes_reach_the_score_of_one(run, blobs, tmp_path):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=2"]
    done = torchrun("train.py", *arguments)
    assert done.code == 0, done.err
    one, two = ([line for line in metrics_lines(directory) if "val/iou" in line] for directory in (run, tmp_path))
    assert [line["val/objects"] for line in two] == [line["val/objects"] for line in one]
    assert [line["val/iou"] for line in two] == pytest.approx([line["val/iou"] for line in one], abs=2e-3)
    assert two[0] == pytest.approx(one[0], abs=1e-6)
    assert len(read_object_scores(tmp_path / "objects.csv")) == 9  # of both processes
    assert "2 processes" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launch", [lambda *a: start(sys.executable, *a), torchrun], ids=["python", "torchrun"])
def test_a_sweep_of_four_jobs_leaves_four_directories_and_four_scores(blobs, tmp_path, launch):
    # run_dir as train.yaml has it, below another folder: its name must do in a sweep too
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}/${{name}}", "epochs=1"]
    done = launch("train.py", "-m", *arguments, "loss=bce_iou,sam", "optimizer.lr=1e-4,3e-5")
    assert done.code == 0, done.err
    jobs = [json.loads(line) for line in (tmp_path / "sweep/sweep.jsonl").read_text().splitlines()]
    assert [job["job"] for job in jobs] == [0, 1, 2, 3]
    assert f" job {max(jobs, key=lambda job: job['best']['iou'])['job']}, iou " in done.out
    assert len({job["best"]["iou"] for job in jobs}) > 1
    assert len({job["zero_shot"]["iou"] for job in jobs}) == 1
    for job in range(4):
        assert (tmp_path / f"sweep/{job}/checkpoints/best.safetensors").exists()
        assert (tmp_path / f"sweep/{job}/report.html").exists()


@pytest.fixture
def one_thread():
    """With more, the factors of LoRA differ in their last bits from run to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_updates_of_the_encoder_resume_exactly_and_score_as_in_validation(blobs, cli, tmp_path, one_thread):
    options = [
        *SMALL,
        *of(blobs),
        "adapt=lora",
        "adapt.stages=1",
        "adapt.dropout=0.1",
    ]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    commands = [(whole, 2), (halves, 1), (halves, 2)]
    for directory, epochs in commands:
        # A cosine would depend on the epochs of the first command, and a cache rounds features at the cut.
        done = cli("train.py", *options, "schedule=constant", "cache=none", f"run_dir={directory}", f"epochs={epochs}")
        assert done.code == 0, done.err
    one, other = (load_file(directory / "checkpoints/last.safetensors") for directory in (whole, halves))
    assert any(name.endswith(".lora_b") and tensor.any() for name, tensor in one.items())
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())

    assert cli("evaluate.py", f"run={whole}", "workers=0", "pictures=0", f"output={tmp_path}").code == 0
    tuned = json.loads((tmp_path / "scores.json").read_text())["tuned"]
    assert tuned["iou"] == max(line["val/iou"] for line in validated(whole))
