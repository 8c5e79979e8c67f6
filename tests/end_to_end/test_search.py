"""A search with Optuna, killed and started again; with a launcher of jobs at once."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import of
from tests.support.cli import ROOT, SMALL, start, torchrun

optuna = pytest.importorskip("optuna", reason='needs pip install "sam-ft[optuna]"')
pytestmark = pytest.mark.slow
SEARCH = ["train.py", "-m", "hydra/sweeper=optuna", *SMALL, "adapt=choice(decoder,decoder_and_prompt)", "patience=null"]


def trials(folder):
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/optuna.db").trials


def recorded(folder):
    return [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]


def kill_once(condition, *command):
    """SIGKILL for a command and its processes, once a line of its output meets the condition."""
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(condition(line) for line in running.stdout)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def test_a_killed_search_goes_on_to_the_same_jobs_as_one_that_was_not(blobs, tmp_path):
    own = [*SEARCH, *of(blobs), "name=search", "epochs=4", "hydra.sweeper.n_trials=4"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    def is_third_job(line):  # its first epoch is in last.safetensors by then
        return line.startswith("epoch 2: ") and (killed / "2").exists()

    kill_once(is_third_job, *own, f"run_dir={killed}")
    assert [trial.state.name for trial in trials(killed)] == ["COMPLETE", "COMPLETE", "RUNNING"]
    logs = [(killed / f"{job}/train.log").read_text() for job in (0, 1)]

    done = start(sys.executable, *own, f"run_dir={killed}")
    assert (done.code, done.err) == (0, "")
    assert [(killed / f"{job}/train.log").read_text() for job in (0, 1)] == logs
    assert "continuing after epoch" in (killed / "2/train.log").read_text()
    assert [(trial.number, trial.state.name) for trial in trials(killed)] == [(n, "COMPLETE") for n in range(4)]
    assert [job["job"] for job in recorded(killed)] == [0, 1, 2, 3]
    assert [job["best"]["iou"] for job in recorded(killed)] == [trial.value for trial in trials(killed)]
    table = done.out[done.out.rindex("  job |") :].splitlines()[2:6]
    assert [row.split()[0] for row in table] == ["0", "1", "2", "3"]
    best = max(trials(killed), key=lambda trial: trial.value)
    assert f"best of 4 jobs so far: job {best.number}, iou {best.value:.4f}" in done.out
    assert f"best_value: {best.value}" in (killed / "optimization_results.yaml").read_text()

    done = start(sys.executable, *own, f"run_dir={whole}")
    assert (done.code, done.err) == (0, "")
    assert [trial.params for trial in trials(whole)] == [trial.params for trial in trials(killed)]
    assert len({trial.params["optimizer.lr"] for trial in trials(whole)}) == 4
    assert [trial.value for trial in trials(whole)] == pytest.approx(
        [trial.value for trial in trials(killed)], abs=1e-6
    )


def test_a_launcher_runs_two_jobs_of_a_search_at_once(blobs, tmp_path):
    pytest.importorskip("submitit")
    jobs = ["hydra/launcher=submitit_local", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2"]
    done = start(sys.executable, *SEARCH, *jobs, *of(blobs), "name=search", f"run_dir={tmp_path}", "epochs=1")
    assert done.code == 0, done.err
    assert [trial.value for trial in trials(tmp_path)] == [
        job["best"]["iou"] for job in sorted(recorded(tmp_path), key=lambda job: job["job"])
    ]
    assert len(trials(tmp_path)) == 3


def test_a_failed_job_neither_ends_a_search_nor_counts(blobs, tmp_path):
    own = [*SEARCH, *of(blobs), "name=search", f"run_dir={tmp_path}", "epochs=1", "hydra.sweeper.n_trials=2"]
    own += ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1", "clip_norm=choice(1.0,-1.0)"]
    for _ in range(2):
        done = start(sys.executable, *own)
        assert done.code == 0, done.err
        for trial, job in zip(trials(tmp_path), recorded(tmp_path), strict=True):
            fails = trial.params["clip_norm"] < 0
            assert (trial.state.name, "error" in job) == (("FAIL", True) if fails else ("COMPLETE", False))
    # The first start ran two jobs, of which one failed; the second goes on at the next number.
    assert [trial.state.name for trial in trials(tmp_path)][:2] == ["COMPLETE", "FAIL"]
    assert len(trials(tmp_path)) == 3


def test_several_processes_are_refused(tmp_path):
    done = torchrun(*SEARCH, f"run_dir={tmp_path}")
    assert "hydra/sweeper=optuna: expected one process" in done.err
    assert not list(tmp_path.iterdir())
