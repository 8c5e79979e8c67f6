"""A tracker may fail in every way: the run's own file is complete, and training is neither stopped nor held up."""

import json
import logging
import socket
import subprocess
import sys

import pytest

from sam_ft.loggers import RunLog
from tests.cli import ROOT


class Broken:
    """A tracker that starts well and then fails."""

    def __init__(self, at):
        self.at = at
        self.calls = 0

    def __getattr__(self, name):
        def call(*_):
            self.calls += 1
            if name == self.at:
                raise ConnectionResetError("gone")

        return call


@pytest.mark.parametrize("at", ["start", "log", "picture", "finish"])
def test_whatever_a_tracker_raises_is_one_warning(tmp_path, caplog, at):
    tracker = Broken(at)
    run = RunLog(tmp_path, tracker, {})
    for step in range(3):
        run.log(step, {"loss": 1.0 / (step + 1)})
        run.picture(step, "samples", tmp_path / "none.png")
    run.finish()
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "ConnectionResetError: gone" in warnings[0].message


def test_a_resumed_run_drops_the_lines_it_will_write_again(tmp_path):
    run = RunLog(tmp_path, None, {})
    for step in range(4):
        run.log(step, {"loss": 0.5})
    run.rewind(1)
    run.log(2, {"loss": 0.1})
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]


def test_numbers_that_are_none_are_still_json(tmp_path):
    RunLog(tmp_path, None, {}).log(0, {"loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None


START = """
import logging, pathlib, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from sam_ft.loggers import RunLog, Wandb
run = RunLog(pathlib.Path(sys.argv[1]), Wandb(timeout=3.0), {"lr": 1})
run.log(1, {"loss": 0.5})
run.finish()
"""


@pytest.mark.parametrize(
    "server", ["none", pytest.param("refuses", marks=pytest.mark.slow), pytest.param("hangs", marks=pytest.mark.slow)]
)
def test_a_server_that_does_not_answer_means_offline_and_no_wait(tmp_path, server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if server == "refuses":
            listener.close()
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        if server != "none":
            environment |= {"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
        command = [sys.executable, "-c", START, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)  # a hang fails
    assert done.returncode == 0, done.stderr
    assert "wandb: offline" in done.stdout
    assert ("logging offline" in done.stdout) == (server != "none")
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 0.5
