"""A failing tracker or disk is one warning, and never stops a run."""

import json
import logging
from pathlib import Path

import pytest

from sam_ft.training.run_log import RunLog


class Broken:
    """A tracker that raises in one of its methods."""

    def __init__(self, at):
        self.at = at
        self.calls = 0

    def __getattr__(self, name):
        def call(*_):
            self.calls += 1
            if name == self.at:
                raise ConnectionResetError("gone")

        return call


@pytest.mark.parametrize("at", ["start", "rewind", "log", "picture", "finish"])
def test_any_exception_of_a_tracker_is_one_warning_and_the_others_go_on(messages, tmp_path, caplog, at):
    tracker, other = Broken(at), Broken(None)
    run = RunLog(tmp_path, {"wandb": tracker, "other": other}, {})
    run.rewind(-1)
    for step in range(3):
        run.log(step, {"loss": 1.0 / (step + 1)})
        run.picture(step, "samples", tmp_path / "none.png")
    run.finish()
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    messages.check(warning.message, "logger=wandb", "ConnectionResetError: gone")
    assert other.calls == 9  # start, rewind, 3 steps with a picture each, finish


def test_a_resumed_run_removes_the_lines_it_will_write_again(tmp_path):
    run = RunLog(tmp_path, {}, {})
    for step in range(4):
        run.log(step, {"loss": 0.5})
    run.rewind(1)
    run.log(2, {"loss": 0.1})
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]


def test_a_line_that_a_crash_left_incomplete_is_removed(tmp_path):
    run = RunLog(tmp_path, {}, {})
    run.log(0, {"loss": 0.5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "lo')
    run.rewind(5)
    run.log(1, {"loss": 0.1})
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_warning(messages, tmp_path, caplog):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    run = RunLog(tmp_path, {}, {})
    for step in range(3):
        run.log(step, {"loss": 0.5})
    messages.logged(caplog, "metrics.jsonl: ", "No space left on device")


@pytest.mark.parametrize("fails", [False, True])
def test_a_tracker_is_finished_once(tmp_path, fails):
    finished = []

    class Tracker(Broken):
        def finish(self, failed):
            finished.append(failed)

    run = RunLog(tmp_path, {"wandb": Tracker(None)}, {})
    run.finish(failed=fails)
    run.finish()
    assert finished == [fails]


def test_nan_is_written_as_null(tmp_path):
    RunLog(tmp_path, {}, {}).log(0, {"loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None
