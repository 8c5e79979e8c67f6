"""A rank that stands still, is killed or makes a mistake ends the others, each kind with its one line."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import of
from tests.support.cli import ROOT, SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has no such signals"),
]
LIMIT = 400  # seconds, generously above those that an end takes: beyond it something hangs


@pytest.fixture
def two_ranks(blobs, tmp_path):
    """`two_ranks(kind)`: a run of tests/support/left_alone.py under torchrun."""
    started = []

    def act(kind, *overrides):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        (tmp_path / "pids").mkdir()
        own = ["-m", "tests.support.left_alone", kind, str(tmp_path / "pids"), *SMALL, *of(blobs)]
        process = subprocess.Popen(
            [*launcher, *own, f"run_dir={tmp_path / 'run'}", "epochs=500", "patience=null", "batch_size=2", *overrides],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield act
    for process in started:
        for number in pids(tmp_path).values():
            if alive(number):
                os.kill(number, signal.SIGKILL)
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()


def pids(tmp_path):
    return {int(path.stem): int(path.read_text()) for path in (tmp_path / "pids").glob("*.pid") if path.read_text()}


def alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition):
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def own_lines(err):
    """The lines before torchrun's report that are not its own."""
    return [line for line in err.splitlines() if line.startswith(("[process", "error", "interrupted", "torchrun has"))]


def test_the_others_end_and_name_a_rank_that_stands_still(messages, two_ranks):
    _, err = two_ranks("stop").communicate(timeout=LIMIT)
    (line,) = own_lines(err)
    messages.check(line, "[process 0]", "process 1 (pid", "no sign of life for 9 s")
    assert 'train.py", line' not in err


def test_a_rank_that_takes_longer_is_waited_for_as_long_as_it_shows_life(two_ranks):
    process = two_ranks("pause", "epochs=1")
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert own_lines(err) == []


def test_a_mistake_on_one_rank_is_the_only_line(messages, two_ranks):
    _, err = two_ranks("mistake").communicate(timeout=LIMIT)
    (line,) = own_lines(err)
    messages.check(line, "[process 1]", "image 7")
    assert "gloo" not in err
    assert 'train.py", line' not in err


def test_a_bug_on_one_rank_has_its_traceback_and_the_other_says_nothing(two_ranks):
    _, err = two_ranks("bug").communicate(timeout=LIMIT)
    assert own_lines(err) == []
    assert "a fault of the program" in err
    assert "gloo" not in err


def test_a_rank_that_was_killed_is_one_line(two_ranks):
    _, err = two_ranks("kill").communicate(timeout=LIMIT)
    assert "gloo" not in err
    (line,) = own_lines(err)
    assert "[process 0] error: another process of this run has ended without" in line


def test_the_ranks_end_with_torchrun(two_ranks, tmp_path):
    process = two_ranks("wait")
    wait_until(lambda: len(pids(tmp_path)) == 2)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids(tmp_path).values())))
    assert "torchrun has ended" in process.stderr.read()
