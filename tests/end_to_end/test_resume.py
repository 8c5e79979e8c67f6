"""A run that a signal, the clock or damage interrupts goes on as if it had not been."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import sam_ft.recipes.train
import torch
from safetensors.torch import load_file

from sam_ft.training.tensor_file import read_tensors
from tests.conftest import of
from tests.support.cli import ROOT, SMALL, call_once, start

pytestmark = pytest.mark.slow

BEST, LAST, OLDER = (f"checkpoints/{name}.safetensors" for name in ("best", "last", "last-1"))
# Three steps an epoch, of two micro-batches, whose numbers leave the device together at the end.
STEPS = ["batch_size=2", "micro_batch_size=1", "epochs=2", "patience=null", "ema=0.9"]
TIMED = {"epoch/objects_per_second", "epoch/seconds", "epoch/encode_seconds", "epoch/peak_gb"}
CASES = {
    "flips": ["transform@train_transform=flips"],
    "clicks and cached views": ["prompt@train_prompt=iterative", "train_prompt.rounds=3", "cache.views=2"],
    "an encoder that learns": ["adapt=full", "transform@train_transform=color", "ema=null"],
}


def rows(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def assert_same(one, other):
    """Weights, optimizer and average are equal bit for bit, and so are all numbers but times."""
    assert rows(one) == rows(other)
    steps = [row["step"] for row in rows(one) if "lr" in row]
    assert steps == list(range(1, len(steps) + 1))
    for file in (BEST, LAST):
        (tensors, notes), (others, other_notes) = (read_tensors(run / file) for run in (one, other))
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
        for found in (notes, other_notes):
            found.get("epoch_sums", {}).pop("seconds", None)
        assert notes == other_notes


@pytest.fixture(scope="module")
def command(blobs):
    return [*SMALL, *of(blobs), *STEPS]


def signaled(monkeypatch, function, call, number):
    """Sends a signal as a function that train.py calls is called for the n-th time."""
    real, calls = getattr(sam_ft.recipes.train, function), 0

    def interrupted(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(f"sam_ft.recipes.train.{function}", interrupted)


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The directories of uninterrupted runs, by case."""
    runs = {}

    def run(case):
        if case not in runs:
            runs[case] = tmp_path_factory.mktemp("whole") / "run"
            call_once("train.py", *command, *CASES[case], f"run_dir={runs[case]}")
        return runs[case]

    return run


@pytest.mark.parametrize(
    ("case", "function", "call", "number", "code", "place"),
    [
        ("flips", "train_step", 2, signal.SIGTERM, 143, "step 2 of epoch 1"),
        ("flips", "evaluate_prompts", 2, signal.SIGUSR1, 0, "step 3 of epoch 1"),
        ("clicks and cached views", "train_step", 4, signal.SIGUSR1, 0, "step 1 of epoch 2"),
        ("an encoder that learns", "train_step", 5, signal.SIGTERM, 143, "step 2 of epoch 2"),
    ],
)
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on_within_the_epoch(
    messages, command, whole, cli, monkeypatch, tmp_path, case, function, call, number, code, place
):
    arguments = [*command, *CASES[case], f"run_dir={tmp_path / 'run'}"]
    with monkeypatch.context() as patch:
        signaled(patch, function, call, number)
        done = cli("train.py", *arguments)
    assert done.code == code, done
    messages.check(done.err, place)
    assert not list(tmp_path.rglob("*tmp-*"))
    again = cli("train.py", *arguments)
    assert again.code == 0, again.err
    assert place in again.out
    assert_same(tmp_path / "run", whole(case))


def test_before_the_first_step_a_signal_ends_the_run_at_once(command, cli, monkeypatch, tmp_path):
    signaled(monkeypatch, "evaluate_prompts", 1, signal.SIGUSR1)
    done = cli("train.py", *command, f"run_dir={tmp_path / 'run'}")
    assert done.code == 0
    assert not (tmp_path / "run" / LAST).exists()


def test_a_state_is_saved_every_so_many_minutes(command, whole, cli, monkeypatch, tmp_path):
    directory = tmp_path / "run"
    saved = []

    def killed(*arguments):
        saved.append(read_tensors(directory / LAST)[1]["step"])
        if len(saved) == 5:
            raise ZeroDivisionError  # as a crash, at which nothing is saved
        return real(*arguments)

    real = sam_ft.recipes.train.train_step
    arguments = [*command, *CASES["flips"], f"run_dir={directory}", "save_every_minutes=1e-9"]
    with monkeypatch.context() as patch:
        patch.setattr("sam_ft.recipes.train.train_step", killed)
        with pytest.raises(ZeroDivisionError):
            cli("train.py", *arguments)
    assert saved == [0, 1, 2, 3, 4]
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    assert "step 1 of epoch 2" in done.out
    assert_same(directory, whole("flips"))


@pytest.mark.parametrize("damage", ["edited", "flipped", "cut", "missing", "empty"])
def test_a_damaged_state_falls_back_to_the_one_before_it(messages, command, whole, cli, tmp_path, damage):
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    path = directory / LAST
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        edited = content.replace(b'"epoch":"2"', b'"epoch":"7"')
        flipped = content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]
        path.write_bytes({"flipped": flipped, "cut": content[:-1000], "empty": b"", "edited": edited}[damage])
        assert path.read_bytes() != content
    done = cli("train.py", *command, *CASES["flips"], f"run_dir={directory}")
    assert done.code == 0, done.err
    messages.line(done.out, LAST, "last-1.safetensors")
    assert "continuing after epoch 1 of 2" in done.out
    assert_same(directory, whole("flips"))
    assert read_tensors(directory / OLDER)[1]["epoch"] == 1


def test_if_both_states_are_damaged_nothing_is_written(messages, command, whole, cli, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    for name in (LAST, OLDER):
        (directory / name).write_bytes((directory / name).read_bytes()[:-1])
    before = (directory / BEST).read_bytes()
    done = cli("train.py", *command, *CASES["flips"], f"run_dir={directory}")
    messages.refused(done, 4, OLDER, "overwrite=true")
    assert (directory / BEST).read_bytes() == before


def test_the_best_weights_are_not_overwritten_where_no_state_is_left(messages, command, whole, cli, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    for name in (LAST, OLDER):
        (directory / name).unlink()
    before = (directory / BEST).read_bytes()
    done = cli("train.py", *command, *CASES["flips"], f"run_dir={directory}")
    messages.refused(done, 2, BEST, "last.safetensors", "overwrite=true")
    assert (directory / BEST).read_bytes() == before
    done = cli("train.py", *command, *CASES["flips"], f"run_dir={directory}", "overwrite=true")
    assert done.code == 0, done.err
    assert_same(directory, whole("flips"))


@pytest.mark.parametrize("epochs", [pytest.param(2, id="finished"), pytest.param(3, id="with more epochs")])
def test_a_state_without_the_best_weights_goes_on(messages, command, whole, cli, tmp_path, epochs):
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    (directory / BEST).unlink()
    arguments = [*command, *CASES["flips"], f"epochs={epochs}", f"run_dir={directory}"]
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    messages.line(done.out, f"{BEST}: no such file")
    # The last epoch was the best one, and is found again.
    assert read_tensors(whole("flips") / BEST)[1]["best_epoch"] == 2
    notes = read_tensors(directory / BEST)[1]
    assert notes["zero_shot"] == read_tensors(whole("flips") / BEST)[1]["zero_shot"]
    assert rows(directory)[: len(rows(whole("flips")))] == rows(whole("flips"))
    if epochs == 2:
        assert notes == read_tensors(whole("flips") / BEST)[1]
        assert_same(directory, whole("flips"))
    else:
        assert notes["best_epoch"] in (2, 3)


def test_a_start_that_ends_before_it_has_found_the_best_weights_again_loses_nothing(
    messages, command, whole, cli, monkeypatch, tmp_path
):
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    (directory / BEST).unlink()
    arguments = [*command, *CASES["flips"], f"run_dir={directory}"]
    with monkeypatch.context() as patch:
        signaled(patch, "evaluate_prompts", 1, signal.SIGINT)
        assert cli("train.py", *arguments).code == 130
    assert read_tensors(directory / BEST)[1]["best_epoch"] == 0
    done = cli("train.py", *arguments)
    assert done.code == 0, done.err
    messages.line(done.out, f"{BEST}: holds the weights of epoch 0")
    assert_same(directory, whole("flips"))


def test_without_the_best_weights_a_worse_last_epoch_leaves_those_of_zero_shot(blobs, cli, tmp_path):
    arguments = [*SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=1", "optimizer.lr=1.0"]
    assert cli("train.py", *arguments).code == 0
    before = load_file(tmp_path / BEST)
    (tmp_path / BEST).unlink()
    assert cli("train.py", *arguments).code == 0
    after = load_file(tmp_path / BEST)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_requeued_job_does_not_overwrite_what_it_has_done(command, whole, cli, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    directory = tmp_path / "run"
    shutil.copytree(whole("flips"), directory)
    done = cli("train.py", *command, *CASES["flips"], f"run_dir={directory}", "overwrite=true")
    assert "already done 2 epochs" in done.out


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def launch(processes, *command):
    launcher = TORCHRUN if processes == 2 else [sys.executable]
    return start(*launcher, *command, PYTHONPATH=str(ROOT), TORCHELASTIC_ERROR_FILE="")


@pytest.mark.parametrize(
    ("processes", "workers", "case", "number", "rank"),
    [
        (1, 2, "clicks and cached views", "SIGTERM", "all"),
        (2, 0, "flips", "SIGUSR1", "1"),
        (2, 2, "clicks and cached views", "SIGUSR1", "0"),
        (2, 2, "an encoder that learns", "SIGUSR1", "all"),
    ],
)
def test_all_processes_stop_after_the_same_step(command, tmp_path, processes, workers, case, number, rank):
    arguments = [*command, *CASES[case], f"workers={workers}"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    done = launch(processes, "train.py", *arguments, f"run_dir={whole}")
    assert done.code == 0, done.err
    stopped = ["-m", "tests.support.stopped", "4", number, rank]
    done = launch(processes, *stopped, *arguments, f"run_dir={halves}")
    assert done.code == (143 if number == "SIGTERM" else 0), done.err
    assert done.err.count("interrupted;") == 1
    assert "Traceback" not in done.err
    assert read_tensors(halves / LAST)[1]["epoch_steps"] in (1, 2)
    done = launch(processes, "train.py", *arguments, f"run_dir={halves}")
    assert done.code == 0, done.err
    assert_same(halves, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_torchrun_hands_a_signal_on_and_waits_for_the_state(blobs, tmp_path, number):
    arguments = [*SMALL, *of(blobs), "batch_size=2", "workers=2", "patience=null", f"run_dir={tmp_path / 'run'}"]
    launcher = [*TORCHRUN, "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1"]
    running = subprocess.Popen(
        [*launcher, "train.py", *arguments, "epochs=500"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any("epoch 2: " in line for line in running.stdout), running.stderr.read()
    time.sleep(0.05)  # into the steps of an epoch, or its validation
    running.send_signal(number)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1  # torchrun's own
    (line,) = (line for line in err.splitlines() if line.startswith("interrupted;"))
    state = read_tensors(tmp_path / "run" / LAST)[1]
    assert state["step"] == 3 * state["epoch"] + state["epoch_steps"]
    steps, epoch = state["epoch_steps"], state["epoch"]
    assert line.endswith(f"step {steps} of epoch {epoch + 1}" if steps else f"epoch {epoch}")
    rows_of_steps = [row["step"] for row in rows(tmp_path / "run") if "lr" in row]
    assert rows_of_steps == list(range(1, state["step"] + 1))
