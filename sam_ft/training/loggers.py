"""Logs metrics and pictures: always to a local file, optionally to a tracker, which never stops the training."""

import errno
import json
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from sam_ft.utils import distributed
from sam_ft.utils.files import as_json, atomic_path

log = logging.getLogger("sam_ft")

FINISH_SECONDS = 60.0  # limit of a tracker's remaining uploads at the end of a run


class Tracker(Protocol):
    """A service that receives metrics and pictures, such as Weights & Biases."""

    def start(self, directory: Path, name: str, settings: dict) -> None: ...

    def log(self, step: int, values: dict) -> None: ...

    def picture(self, step: int, title: str, path: Path) -> None: ...

    def finish(self, failed: bool) -> None: ...


def no_tracker() -> None:
    """The tracker of `logger=none`."""


class RunLog:
    """Writes metrics.jsonl, one JSON object per line, and calls the tracker; on the main process only.

    Any exception of the tracker becomes one warning, and the run continues without it; so does a full disk. As a
    context manager it finishes the tracker at the end of its block and passes on whether the run failed.
    """

    def __init__(self, directory: Path, tracker: Tracker | None, settings: dict):
        self._path = directory / "metrics.jsonl"
        self._file_warned = False
        # None on the other processes: every method below does nothing then.
        self._tracker = tracker if distributed.is_main() else None
        if self._tracker is not None:
            self._guard(self._tracker.start, directory, directory.name, settings)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def log(self, step: int, values: dict) -> None:
        """Logs metrics at an optimizer step, counted from the start of training."""
        if distributed.is_main():
            line = as_json({"step": step, **values}) + "\n"
            self._to_file(lambda: _append(self._path, line.encode()))
        if self._tracker is not None:
            self._guard(self._tracker.log, step, values)

    def picture(self, step: int, title: str, path: Path) -> None:
        if self._tracker is not None:
            self._guard(self._tracker.picture, step, title, path)

    def finish(self, failed: bool = False) -> None:
        if self._tracker is not None:
            self._guard(self._tracker.finish, failed)
        self._tracker = None  # finish only once

    def rewind(self, step: int) -> None:
        """Removes lines after `step`, which a resumed run writes again, and an incomplete line."""
        if distributed.is_main() and self._path.exists():
            self._to_file(lambda: _keep_lines(self._path, step))

    def _to_file(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._file_warned:
                log.warning("%s: cannot be written (%s); it will lack metrics", self._path, error.strerror)
            self._file_warned = True

    def _guard(self, call: Callable, *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # a tracker may raise any type, and must not end the run
            log.warning("logger: %s: %s; the run continues with metrics.jsonl only", type(error).__name__, error)
            self._tracker = None


def _append(path: Path, line: bytes) -> None:
    """Appends a line, or nothing if the disk is full: a partial line would also corrupt the next one."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(line) < len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _keep_lines(path: Path, last_step: int) -> None:
    lines = path.read_text(errors="replace").splitlines()
    with atomic_path(path) as temporary:
        # An incomplete line has step infinity, so it is dropped too.
        temporary.write_text("".join(line + "\n" for line in lines if _step_of(line) <= last_step))


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; infinity for a line that a crash left incomplete."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class Wandb:
    """Weights & Biases: online if a key is configured and the server responds, else offline in the run directory.

    Never prompts for a key on the terminal, unlike wandb itself: a run may be unattended.
    """

    def __init__(self, project: str = "sam-ft", mode: str = "auto", timeout: float = 15.0):
        self.project = project
        self.mode = mode
        self.timeout = timeout

    def start(self, directory: Path, name: str, settings: dict) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # otherwise it prints a dozen lines per run
        import wandb  # here, because it takes a second to import

        self._wandb = wandb
        # $WANDB_MODE overrides the setting, as in wandb itself
        mode = os.environ.get("WANDB_MODE") or self.mode
        if mode in ("auto", "online"):
            mode = self._choose_mode(mode)
        try:
            self._run = self._init(mode, directory, name, settings)
        # The server accepted a connection but not the run: such as a revoked key, or a timeout.
        except (wandb.errors.Error, OSError) as error:
            log.warning("wandb: %s; logging offline", str(error).splitlines()[0])
            mode = "offline"
            self._run = self._init(mode, directory, name, settings)
        where = f"wandb sync {Path(self._run.dir).parent}" if mode == "offline" else self._run.url
        log.info("wandb: %s (%s)", mode, where)

    def _init(self, mode: Any, directory: Path, name: str, settings: dict):
        return self._wandb.init(
            project=self.project,
            name=name,
            dir=directory,
            config=settings,
            mode=mode,
            reinit="finish_previous",
            settings=self._wandb.Settings(
                init_timeout=self.timeout,
                finish_timeout=FINISH_SECONDS,
                finish_timeout_raises=True,  # otherwise a timeout looks like success
                console="off",  # the run has its own log
                disable_git=True,  # nothing of the user's repository is uploaded
            ),
        )

    def _choose_mode(self, wanted: str) -> str:
        settings = self._wandb.setup().settings
        url = urlsplit(settings.base_url)
        # A key from the environment or the settings, or from netrc, where `wandb login` stores it.
        if not (settings.api_key or settings.identity_token_file or _has_netrc_key(url.netloc)):
            if wanted == "online":
                log.warning("wandb: mode=online, but there is no key for %s; logging offline", url.netloc)
            return "offline"
        try:  # wandb itself would retry for minutes and then raise
            port = url.port or (80 if url.scheme == "http" else 443)
            socket.create_connection((url.hostname, port), timeout=3).close()
        except OSError as error:
            log.warning("wandb: %s cannot be reached (%s); logging offline", url.netloc, error)
            return "offline"
        return "online"

    def log(self, step: int, values: dict) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, title: str, path: Path) -> None:
        self._run.log({title: self._wandb.Image(str(path))}, step=step)

    def finish(self, failed: bool) -> None:
        """Waits for uploads for a limited time: a lost server must not keep the process alive."""
        finished = threading.Event()

        def finish() -> None:
            with suppress(Exception):  # mostly its timeout
                self._run.finish(exit_code=int(failed))
                finished.set()

        worker = threading.Thread(target=finish, daemon=True)  # daemon: does not keep the process alive
        worker.start()
        worker.join(FINISH_SECONDS + 5)  # in case its own timeout fails
        if not finished.is_set():
            log.warning("wandb: upload not finished; `wandb sync %s` later", Path(self._run.dir).parent)
        # Still in wandb's finish: its exit hook would wait as well.
        if worker.is_alive():
            self._end_service()

    def _end_service(self) -> None:
        """Kills wandb's service process, on which its exit hook would wait without limit; its file stays on disk."""
        with suppress(AttributeError):  # private attributes: there is no public API
            service: Any = self._wandb.setup()._connection
            service._proc._process.kill()


def _has_netrc_key(host: str) -> bool:
    """Whether `wandb login` stored a key for the server in the netrc file."""
    try:
        return netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser()).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
