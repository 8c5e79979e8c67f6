"""A failing tracker leaves metrics.jsonl complete and neither stops nor delays training."""

import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sam_ft.training.loggers import RunLog, Wandb
from tests.support.cli import ROOT


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


@pytest.mark.parametrize("at", ["start", "log", "picture", "finish"])
def test_any_exception_of_a_tracker_is_one_warning(messages, tmp_path, caplog, at):
    tracker = Broken(at)
    run = RunLog(tmp_path, tracker, {})
    for step in range(3):
        run.log(step, {"loss": 1.0 / (step + 1)})
        run.picture(step, "samples", tmp_path / "none.png")
    run.finish()
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    messages.check(warning.message, "ConnectionResetError: gone")


def test_a_resumed_run_removes_the_lines_it_will_write_again(tmp_path):
    run = RunLog(tmp_path, None, {})
    for step in range(4):
        run.log(step, {"loss": 0.5})
    run.rewind(1)
    run.log(2, {"loss": 0.1})
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == [0, 1, 2]


def test_a_line_that_a_crash_left_incomplete_is_removed(tmp_path):
    run = RunLog(tmp_path, None, {})
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
    run = RunLog(tmp_path, None, {})
    for step in range(3):
        run.log(step, {"loss": 0.5})
    messages.logged(caplog, "metrics.jsonl: ", "No space left on device")


@pytest.mark.parametrize("fails", [False, True])
def test_a_tracker_is_finished_once_also_by_a_run_that_raises(tmp_path, fails):
    finished = []

    class Tracker(Broken):
        def finish(self, failed):
            finished.append(failed)

    def train():
        with RunLog(tmp_path, Tracker(None), {}) as run:
            if fails:
                raise KeyError("a mistake in training")
            run.finish()

    if fails:
        with pytest.raises(KeyError, match="a mistake in training"):
            train()
    else:
        train()
    assert finished == [fails]


def test_nan_is_written_as_null(tmp_path):
    RunLog(tmp_path, None, {}).log(0, {"loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)["loss"] is None


START = """
import logging, os, pathlib, signal, sys, time
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from sam_ft.training import loggers
{before}
tracker = loggers.Wandb(timeout=3.0)
run = loggers.RunLog(pathlib.Path(sys.argv[1]), tracker, {{"lr": 1}})
run.log(1, {{"loss": 0.5}})
{after}
run.finish()
"""

# A minimal server on which a run can start; it is shut down before the run ends.
LOST_SERVER = """
import http.server, json, threading

class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])) or "{}")
        project = {"id": "p", "name": "sam-ft", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": request.get("variables", {}).get("name"), "config": "{}", "project": project}
        response = json.dumps({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
loggers.FINISH_SECONDS = 1.0
"""


def log_to_wandb(directory, before="", after="", **environment):
    """Logs one value to W&B in a subprocess with a time limit."""
    command = [sys.executable, "-c", START.format(before=before, after=after), str(directory)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads((directory / "metrics.jsonl").read_text())["loss"] == 0.5
    assert [path for path in directory.glob("wandb/*run-*/*.wandb") if path.stat().st_size]
    return done.stdout


@pytest.mark.parametrize(
    "server", ["none", pytest.param("refuses", marks=pytest.mark.slow), pytest.param("hangs", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("mode", ["auto", pytest.param("online", marks=pytest.mark.slow)])
def test_without_a_responding_server_it_logs_offline_and_does_not_wait(tmp_path, server, mode):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if server == "refuses":
            listener.close()
        environment = {} if mode == "auto" else {"WANDB_MODE": mode}
        if server != "none":
            environment |= {"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
        out = log_to_wandb(tmp_path, **environment)
    assert "wandb: offline" in out
    assert ("logging offline" in out) == (server != "none" or mode == "online")


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_it_never_prompts_for_a_key(messages, monkeypatch, mode, caplog, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    settings = SimpleNamespace(base_url="https://api.wandb.ai", api_key=None, identity_token_file=None)
    tracker = Wandb(mode=mode)
    tracker._wandb = SimpleNamespace(setup=lambda: SimpleNamespace(settings=settings))
    assert tracker._choose_mode(mode) == "offline"
    if mode == "online":
        messages.logged(caplog, "api.wandb.ai", "offline")
    else:
        assert caplog.messages == []


@pytest.mark.slow
def test_a_server_lost_during_the_run_does_not_keep_the_process_alive(tmp_path):
    after = "time.sleep(1); server.shutdown(); server.server_close()"
    out = log_to_wandb(tmp_path, LOST_SERVER, after, WANDB_API_KEY="x" * 40)
    assert "wandb: online" in out
    assert "upload not finished; `wandb sync" in out


@pytest.mark.slow
def test_a_service_that_hangs_does_not_keep_the_process_alive(tmp_path):
    before = "loggers.FINISH_SECONDS = 1.0"
    # its exit hook would wait for the suspended process
    after = "time.sleep(1); os.kill(tracker._wandb.setup()._connection._proc._process.pid, signal.SIGSTOP)"
    assert "upload not finished; `wandb sync" in log_to_wandb(tmp_path, before, after)
