"""Ctrl-C and SIGTERM end a run in one line, and the same command continues it with nothing lost."""

import os
import re
import signal
import subprocess
import sys

import pytest

from tests.conftest import of
from tests.support.cli import ROOT, SMALL

LONG = [*SMALL, "workers=2", "patience=null", "epochs=500"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def interrupted(number, word, *command):
    """(exit code, stderr) of a command that gets a signal, with all its processes, once it has printed `word`."""
    running = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal has it: a group of its own, that the signal goes to
    )
    assert any(word in line for line in running.stdout), running.stderr.read()
    os.killpg(running.pid, number)
    _, err = running.communicate(timeout=120)
    return running.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_says_where_it_will_go_on_and_does(messages, number, code, blobs, tmp_path, cli):
    arguments = [*LONG, *of(blobs), f"run_dir={tmp_path}"]
    ended, err = interrupted(number, "epoch 2: ", "train.py", *arguments)
    line, epoch = err.rstrip().rsplit(" ", 1)
    assert ended == code
    step = re.search(r"step \d+ of epoch", line)  # only where a signal waits for the end of a step
    assert not step or number == signal.SIGTERM
    messages.check(line.replace(step.group(), "epoch") if step else line)
    done = cli("train.py", *arguments[:-1], f"run_dir={tmp_path}", f"epochs={epoch}")
    assert (f"continuing after {step.group()} {epoch} of {epoch}" if step else f" {epoch} epochs") in done.out
    assert not list(tmp_path.rglob("*tmp-*"))


@pytest.mark.slow
def test_before_the_first_epoch_there_is_nothing_to_go_on_from(messages, blobs, tmp_path):
    ended, err = interrupted(signal.SIGINT, "lite_medsam at 64", "train.py", *LONG, *of(blobs), f"run_dir={tmp_path}")
    assert ended == 130
    messages.check(err)


@pytest.mark.slow
@pytest.mark.parametrize(("script", "code"), [("train.py", 0), ("sam_ft.check", 141)])
def test_when_nobody_reads_the_output_any_more_nothing_is_said_of_it(script, code, blobs, tmp_path):
    own = [*SMALL, f"run_dir={tmp_path}", "epochs=1"] if script == "train.py" else [f"output={tmp_path}"]
    command = [script] if script.endswith(".py") else ["-m", script]
    running = subprocess.Popen(
        [sys.executable, *command, *of(blobs), *own],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.stdout.close()  # as `| head` does
    _, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (code, "")
    written = "train.log" if script == "train.py" else "report.json"
    assert (tmp_path / written).stat().st_size > 100


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_of_several_processes_the_main_one_speaks(number, blobs, tmp_path):
    _, err = interrupted(number, "epoch 2: ", *TORCHRUN, "train.py", *LONG, *of(blobs), f"run_dir={tmp_path}")
    assert sum(line.startswith("interrupted") for line in err.splitlines()) == 1
    # torchrun prints tracebacks of its own, one or, if the signal comes where it measures time, two
    assert all("distributed/elastic/" in traceback for traceback in err.split("Traceback (most recent")[1:])
    assert 'train.py", line' not in err


def test_with_overwrite_the_same_command_would_not_go_on(messages, blobs, tmp_path, cli, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sam_ft.report.summary.score_table", stop)
    done = cli("train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", "epochs=1", "overwrite=true")
    assert done.code == 130
    messages.check(done.err, "epoch 1", "overwrite=true")


def test_an_evaluation_starts_anew(messages, run, cli, monkeypatch, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sam_ft.report.tables.score_table", stop)
    done = cli("evaluate.py", f"run={run}", "workers=0", f"output={tmp_path}")
    assert done.code == 130
    messages.check(done.err)
    assert not list(tmp_path.iterdir())
