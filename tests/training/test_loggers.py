"""W&B in trouble leaves metrics.jsonl complete and neither stops nor delays training; TensorBoard has its values."""

import io
import json
import os
import pty
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sam_ft.training.loggers import TensorBoard
from sam_ft.training.run_log import RunLog
from tests.support.cli import ROOT, SMALL

START = """
import logging, os, pathlib, sys, time
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
from sam_ft.training import loggers, run_log
{before}
directory = pathlib.Path(sys.argv[1])
run = run_log.RunLog(directory, {{"wandb": loggers.Wandb({options})}}, {{"lr": 1}})
run.log(1, {{"loss": 0.5}})
run.picture(1, "predictions", directory / "picture.png")
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


def log_to_wandb(directory, before="", after="", options="timeout=3.0", stdin=None, **environment):
    """Logs one value and a picture to W&B in a subprocess with a time limit. → its log

    stdin: of a terminal, which then is its stderr too
    """
    Image.new("RGB", (8, 8)).save(directory / "picture.png")
    command = [sys.executable, "-c", START.format(before=before, after=after, options=options), str(directory)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "PYTHONPATH": str(ROOT), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE if stdin is None else stdin, "stdin": stdin}
    done = subprocess.run(command, env=environment, text=True, timeout=60, **pipes)
    assert done.returncode == 0, done.stderr
    assert json.loads((directory / "metrics.jsonl").read_text())["loss"] == 0.5
    assert [path for path in directory.glob("wandb/*run-*/*.wandb") if path.stat().st_size]
    return done.stdout


def warnings(log):
    return [line for line in log.splitlines() if line.startswith("WARNING")]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "hangs"])
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_responding_server_it_logs_offline_after_one_warning(tmp_path, server, mode):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if server == "refuses":
            listener.close()
        out = log_to_wandb(
            tmp_path,
            WANDB_API_KEY="x" * 40,
            WANDB_BASE_URL=f"http://127.0.0.1:{port}",
            **({} if mode == "auto" else {"WANDB_MODE": mode}),
        )
    (warning,) = warnings(out)
    assert "logging offline" in warning
    assert "wandb: offline" in out


@pytest.mark.slow
def test_a_key_of_the_wrong_form_is_one_warning(tmp_path):
    (warning,) = warnings(log_to_wandb(tmp_path, WANDB_API_KEY="x"))
    assert "WANDB_API_KEY" in warning
    assert "logging offline" in warning


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", pytest.param("online", marks=pytest.mark.slow)])
def test_without_a_key_it_logs_offline_and_does_not_prompt_on_a_terminal(messages, tmp_path, mode):
    outer, terminal = pty.openpty()
    try:
        # not silent: wandb prompts on a terminal then
        out = log_to_wandb(tmp_path, options=f"mode={mode!r}", stdin=terminal, TERM="xterm", WANDB_SILENT="false")
    finally:
        os.close(terminal)
        os.close(outer)
    assert "wandb: offline" in out
    if mode == "online":
        messages.check(*warnings(out))
    else:
        assert warnings(out) == []


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_pictures_are_logged_only_if_they_are_wanted(tmp_path, wanted):
    log_to_wandb(tmp_path, options=f"pictures={wanted}")
    (run,) = tmp_path.glob("wandb/offline-run-*")
    assert len(list(run.rglob("*.png"))) == wanted
    (record,) = run.glob("*.wandb")
    assert (b"predictions" in record.read_bytes()) == wanted


@pytest.mark.slow
def test_a_server_lost_during_the_run_does_not_keep_the_process_alive(tmp_path):
    after = "time.sleep(1); server.shutdown(); server.server_close()"
    out = log_to_wandb(tmp_path, LOST_SERVER, after, WANDB_API_KEY="x" * 40)
    assert "wandb: online" in out
    (warning,) = warnings(out)
    assert "upload not finished; `wandb sync" in warning


def events(directory):
    """The event files of a run as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    return found.Reload()


def scalars(directory):
    """{(name, step): value}"""
    found = events(directory)
    return {(name, one.step): one.value for name in found.Tags()["scalars"] for one in found.Scalars(name)}


def written(directory):
    """The same of metrics.jsonl, in the precision of TensorBoard."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return {
        (name, line["step"]): float(np.float32(value))
        for line in lines
        for name, value in line.items()
        if name != "step"
    }


def log_to_tensorboard(directory, resumed_at, steps, **options):
    run = RunLog(directory, {"tensorboard": TensorBoard(**options)}, {"lr": 0.1, "loss": {"terms": ["bce"]}})
    run.rewind(resumed_at)
    for step in steps:
        run.log(step, {"epoch": step // 3, "train/loss": 1 / (1 + step) + resumed_at})
    return run


def test_tensorboard_reads_the_values_of_metrics_jsonl(tmp_path):
    log_to_tensorboard(tmp_path, -1, range(6)).finish()
    assert len(scalars(tmp_path)) == 12
    assert scalars(tmp_path) == written(tmp_path)


@pytest.mark.parametrize("resumed_at", [-1, 2, 5])
def test_a_run_that_goes_on_hides_the_steps_that_it_logs_again(tmp_path, resumed_at):
    log_to_tensorboard(tmp_path, -1, range(6))  # killed: not finished
    log_to_tensorboard(tmp_path, resumed_at, range(resumed_at + 1, 5)).finish()
    assert max(step for _, step in scalars(tmp_path)) == max(4, resumed_at)
    assert scalars(tmp_path) == written(tmp_path)


@pytest.mark.parametrize("wanted", [True, False])
def test_pictures_and_settings_are_in_the_events(tmp_path, wanted):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    run = log_to_tensorboard(tmp_path, -1, range(2), pictures=wanted)
    run.picture(1, "predictions", tmp_path / "picture.png")
    run.finish()
    found = events(tmp_path)
    (text,) = found.Tensors("settings/text_summary")
    assert json.loads(text.tensor_proto.string_val[0].decode().strip("`\n")) == {"lr": 0.1, "loss": {"terms": ["bce"]}}
    assert found.Tags()["images"] == (["predictions"] if wanted else [])
    if wanted:
        (image,) = found.Images("predictions")
        assert image.step == 1
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), pixels)


def test_without_the_package_the_command_that_installs_it_is_named(messages, cli, tmp_path, monkeypatch):
    monkeypatch.setattr("sam_ft.training.loggers.find_spec", lambda name: None)
    done = cli("train.py", *SMALL[:2], "logger=tensorboard", f"run_dir={tmp_path}")
    messages.refused(done, 2, 'pip install "sam-ft[tensorboard]"')
