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

from sam_ft import Predictor, build_model
from sam_ft.report.object_scores import read_object_scores
from sam_ft.training.checkpoint import save_partial_weights, save_training_state
from sam_ft.training.tensor_file import read_tensors
from tests.conftest import of
from tests.support.blobs import write_folder
from tests.support.cli import SMALL, start, torchrun
from tests.training.test_loggers import scalars, written


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def validated(directory):
    """The scores of each evaluation."""
    return [{k: v for k, v in line.items() if "val/" in k} for line in lines(directory) if "val/iou" in line]


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
    first = lines(run)[0]
    assert first["step"] == 0
    assert first["val/objects"] == 9
    steps = [line["step"] for line in lines(run) if "train/loss" in line]
    assert steps == [1, 2, 3, 4]  # 5 images with objects in batches of 4, two epochs


def test_the_log_holds_loss_rate_norm_metrics_and_throughput(run):
    step, epoch = lines(run)[1], lines(run)[3]
    assert {"train/loss", "train/bce", "train/iou_head", "train/grad_norm", "lr"} <= step.keys()
    assert {"val/iou", "val/dice", "val/iou_per_image", "epoch/objects_per_second"} <= epoch.keys()


def test_images_without_objects_are_counted_and_skipped(run):
    assert "train: 6 images with 15 objects, 1 of them without any (skipped)" in (run / "train.log").read_text()


def test_the_same_command_again_trains_nothing_and_says_what_came_out(messages, run, blobs, cli):
    before = lines(run)
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", "epochs=2")
    assert done.code == 0, done.err
    messages.line(done.out, "2 epochs")
    assert "zero-shot" in done.out
    assert lines(run) == before


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
        if saved:
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
        return [{k: v for k, v in line.items() if k not in timed} for line in lines(tmp_path / name)]

    assert untimed("whole") == untimed("halves")
    whole, halves = ((tmp_path / name / "objects.csv").read_text() for name in ("whole", "halves"))
    assert whole == halves


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
    *before, row = lines(directory)
    assert before == lines(run)
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
        assert lines(directory) == [*before, row]
    # The state names the mix, but the weights were not written: as after a crash between the two.
    (directory / file).unlink()  # not in place: `weights` may be a map of the file
    shutil.copy(run / file, directory / file)
    assert not as_before()
    continued(run, blobs, directory, cli, *TOO_FAST, MIX)
    assert as_before()


def test_the_last_epoch_is_mixed_if_none_beats_zero_shot(blobs, tmp_path, cli):
    run, mixed, file = tmp_path / "run", tmp_path / "mixed", "checkpoints/best.safetensors"
    assert cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", *FAR_TOO_FAST).code == 0
    zero_shot, epoch = (line["val/iou"] for line in validated(run))
    assert epoch < zero_shot
    out = continued(run, blobs, mixed, cli, *FAR_TOO_FAST, "mix=[0.1,0.3]")
    assert "mix=0.1 of epoch 1" in out
    row = lines(mixed)[-1]
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
    assert lines(mixed)[-1] == row
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


def test_the_average_is_mixed_in_the_same_run_that_trained_it(blobs, tmp_path, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", *TOO_FAST, "ema=0.9", MIX)
    assert done.code == 0, done.err
    weights, metadata = read_tensors(tmp_path / "checkpoints/best.safetensors")
    last = load_file(tmp_path / "checkpoints/last.safetensors")
    base = build_model("lite_medsam", image_size=64).state_dict()
    assert metadata["mix"] < 1
    for name, tensor in weights.items():
        assert torch.equal(tensor, base[name].lerp(last[f"ema.{name}"], metadata["mix"])), name


def test_more_epochs_after_the_end_train_on_at_the_final_rate(blobs, tmp_path, cli):
    # As with 20 epochs and then 30: the cosine is not stretched, so the rate does not rise again.
    for epochs in (2, 3):
        done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path / 'run'}", f"epochs={epochs}", "patience=null")
        assert done.code == 0, done.err
    rates = [line["lr"] for line in lines(tmp_path / "run") if "lr" in line]
    steps = len(rates) // 3
    assert rates[-steps:] == [rates[2 * steps - 1]] * steps
    assert rates[-1] < max(rates) / 20


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
    assert lines(tmp_path / "run")[-1]["val/objects"] == (3 if split == "train" else 2)
    done = cli("evaluate.py", f"run={tmp_path / 'run'}", f"split={split}", "workers=0", "pictures=0")
    assert done.code == 0, done.err


def test_other_settings_in_the_same_directory_are_refused(messages, run, blobs, cli):
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={run}", "optimizer.lr=1e-3")
    messages.refused(done, 2, "optimizer.lr: ", " 0.0001 ", " 0.001 ", "overwrite=true")


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


def test_classes_have_a_table_of_their_own_at_the_end_and_when_the_run_is_asked_again(blobs, tmp_path, cli):
    given = ["data=folder", f"data.root={blobs}", "data.objects=classes", "data.classes={cell: 255, stone: 7}"]
    for _ in range(2):
        done = cli("train.py", *SMALL, *given, f"run_dir={tmp_path}", "epochs=1")
        assert done.code == 0, done.err
        (row,) = (line.split("|") for line in done.out.splitlines() if line.startswith("  cell "))
        assert int(row[1]) == 3
        assert float(row[2]) == pytest.approx(lines(tmp_path)[0]["val_class/cell"], abs=1e-4)
        assert "  absent: stone\n" in done.out


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


@pytest.fixture
def evaluated(run, tmp_path, cli):
    """The folder that evaluate.py writes for `run`."""
    done = cli("evaluate.py", f"run={run}", "workers=0", "pictures=2", f"output={tmp_path / 'evaluation'}")
    assert done.code == 0, done.err
    assert "3 images with 9 objects" in done.out
    return tmp_path / "evaluation"


def test_evaluate_scores_both_as_training_did(run, evaluated):
    scores = json.loads((evaluated / "scores.json").read_text())
    progress = lines(run)
    best = max((line for line in progress if "val/iou" in line), key=lambda line: line["val/iou"])
    for which, line in (("zero_shot", progress[0]), ("tuned", best)):
        for name in ("iou", "dice", "iou_per_image", "objects"):
            assert scores[which][name] == line[f"val/{name}"], (which, name)
    rows = (evaluated / "objects.csv").read_text().splitlines()
    assert len(rows) == 1 + 9
    assert rows[0].startswith("prompt,name,object,label,input_side,area,zero_shot_iou,zero_shot_dice")
    assert (evaluated / "worst_and_best.png").stat().st_size > 1000


def test_evaluate_without_a_run_takes_model_data_and_checkpoint(run, blobs, tmp_path, cli):
    common = ["model=lite_medsam", "model.image_size=64", *of(blobs), "workers=0", "pictures=0", f"output={tmp_path}"]
    assert cli("evaluate.py", *common, f"checkpoint={run / 'checkpoints/best.safetensors'}").code == 0
    both = json.loads((tmp_path / "scores.json").read_text())
    assert both["zero_shot"]["iou"] != both["tuned"]["iou"]
    assert cli("evaluate.py", *common).code == 0
    assert "tuned" not in json.loads((tmp_path / "scores.json").read_text())


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("eval_batch_size=0", "1"),
        ("eval_chunk=2.5", "1"),
        ("workers=-1", "0"),
        ("pictures=-1", "0"),
        ("split=test", "train or val"),
        ("output=LICENSE/scores", "Not a directory"),
    ],
)
def test_evaluate_refuses_before_it_scores(messages, run, cli, override, fact):
    done = cli("evaluate.py", f"run={run}", override)
    assert done.out == ""
    messages.refused(done, 2, f"error: {override}", fact)
    assert len(done.err.splitlines()) == 1


def test_evaluate_lists_all_bad_masks_together(messages, run, tmp_path, cli):
    folder = write_folder(tmp_path / "cells", [2] * 6)
    for name in ("blobs_4", "blobs_5"):
        (folder / f"instances/{name}.png").write_bytes(b"no picture")
    done = cli("evaluate.py", f"run={run}", f"+data.root={folder}", f"output={tmp_path / 'out'}")
    messages.refused(done, 3, "blobs_4.png", "blobs_5.png")


def test_the_predictor_of_a_run_gives_the_masks_that_were_scored(run, blobs, evaluated):
    header, *rows = (evaluated / "objects.csv").read_text().splitlines()
    header = header.split(",")
    predictor = Predictor.from_run(run)
    for row in rows:
        values = dict(zip(header, row.split(","), strict=True))
        image = np.asarray(Image.open(blobs / f"images/{values['name']}.png"))
        mask = np.asarray(Image.open(blobs / f"instances/{values['name']}.png")) == int(values["object"]) + 1
        y, x = np.nonzero(mask)
        masks, scores, _ = predictor.predict(image, boxes=[[x.min(), y.min(), x.max() + 1, y.max() + 1]])
        iou = (masks[0, 0] & mask).sum() / (masks[0, 0] | mask).sum()
        assert iou == pytest.approx(float(values["tuned_iou"]), abs=1e-6)
        assert scores[0, 0] == pytest.approx(float(values["tuned_pred_iou"]), abs=1e-4)


@pytest.mark.slow
def test_two_processes_reach_the_score_of_one(run, blobs, tmp_path):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=2"]
    done = torchrun("train.py", *arguments)
    assert done.code == 0, done.err
    one, two = ([line for line in lines(directory) if "val/iou" in line] for directory in (run, tmp_path))
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
