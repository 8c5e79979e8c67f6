"""Where numbers and pictures of a run go: a local file always, and a tracker that must never stop the training."""

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

FINISH_SECONDS = 60.0  # that a tracker may take at the end of a run to upload what is left


class Tracker(Protocol):
    """A service beside the local file."""

    def start(self, directory: Path, name: str, settings: dict) -> None: ...

    def log(self, step: int, values: dict) -> None: ...

    def picture(self, step: int, title: str, path: Path) -> None: ...

    def finish(self, failed: bool) -> None: ...


def no_tracker() -> None:
    """The tracker of `logger=none`."""


class RunLog:
    """metrics.jsonl of a run, one JSON object a line, and the tracker if there is one; writes on the main process only.

    Whatever a tracker raises becomes one warning, and the run goes on without it; so does a disk that is full. As a
    context manager it finishes at the end of its block, and tells the tracker when the run failed.
    """

    def __init__(self, directory: Path, tracker: Tracker | None, settings: dict):
        self._path = directory / "metrics.jsonl"
        self._file_is_told = False
        self._tracker = tracker if distributed.is_main() else None
        if self._tracker is not None:
            self._guard(self._tracker.start, directory, directory.name, settings)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def log(self, step: int, values: dict) -> None:
        """Writes numbers at a step (optimizer steps since the start of training)."""
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
        self._tracker = None  # once is enough

    def rewind(self, step: int) -> None:
        """Drops the lines after `step`, which a run that goes on from there writes again, and what is half a line."""
        if distributed.is_main() and self._path.exists():
            self._to_file(lambda: _keep_lines(self._path, step))

    def _to_file(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._file_is_told:
                log.warning("%s: cannot be written (%s); numbers are missing there", self._path, error.strerror)
            self._file_is_told = True

    def _guard(self, call: Callable, *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:
            log.warning("logger: %s: %s; the run goes on with metrics.jsonl alone", type(error).__name__, error)
            self._tracker = None


def _append(path: Path, line: bytes) -> None:
    """Adds a line or, on a disk that fills up, nothing: half a line would spoil the next one too."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(line) < len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _keep_lines(path: Path, last_step: int) -> None:
    lines = path.read_text(errors="replace").splitlines()
    with atomic_path(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines if _step_of(line) <= last_step))


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl; none, so one after all others, of a line that a crash left half written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class Wandb:
    """Weights & Biases: online when a key is configured and the server answers, else offline into the run directory.

    It never asks for a key, as wandb itself does on a terminal: nobody may be there to answer.
    """

    def __init__(self, project: str = "sam-ft", mode: str = "auto", timeout: float = 15.0):
        self.project = project
        self.mode = mode
        self.timeout = timeout

    def start(self, directory: Path, name: str, settings: dict) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # it prints a dozen lines around every run otherwise
        import wandb  # takes a second: only those who log to it pay

        self._wandb = wandb
        # $WANDB_MODE is the user's word too, and the stronger one
        mode = os.environ.get("WANDB_MODE") or self.mode
        if mode in ("auto", "online"):
            mode = self._choose_mode(mode)
        try:
            self._run = self._init(mode, directory, name, settings)
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
                finish_timeout_raises=True,
                console="off",
                disable_git=True,
            ),
        )

    def _choose_mode(self, wanted: str) -> str:
        settings = self._wandb.setup().settings
        url = urlsplit(settings.base_url)
        if not (settings.api_key or settings.identity_token_file or _has_netrc_key(url.netloc)):
            if wanted == "online":
                log.warning("wandb: mode=online, but there is no key for %s; logging offline", url.netloc)
            return "offline"
        try:  # wandb itself would try for minutes, and then raise
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
        """Waits for uploads, but not for ever: a server lost in mid-run must not keep the process alive."""
        finished = threading.Event()

        def finish() -> None:
            with suppress(Exception):  # a timeout above all
                self._run.finish(exit_code=int(failed))
                finished.set()

        worker = threading.Thread(target=finish, daemon=True)
        worker.start()
        worker.join(FINISH_SECONDS + 5)  # it should give up by itself; this is for when it does not
        if not finished.is_set():
            log.warning("wandb: upload not finished; `wandb sync %s` later", Path(self._run.dir).parent)
        if worker.is_alive():
            self._end_service()

    def _end_service(self) -> None:
        """Kills wandb's own process, for which its exit hook would wait without limit; its file stays on disk."""
        with suppress(AttributeError):  # there is no public way to it
            service: Any = self._wandb.setup()._connection
            service._proc._process.kill()


def _has_netrc_key(host: str) -> bool:
    """Whether `wandb login` left a key for the server in the file where it leaves them."""
    try:
        return netrc(os.environ.get("NETRC") or Path("~/.netrc").expanduser()).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
