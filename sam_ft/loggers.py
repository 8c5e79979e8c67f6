"""Where numbers and pictures of a run go: a local file always, and a tracker that must never stop the training."""

import json
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from sam_ft import distributed

log = logging.getLogger("sam_ft")


class Tracker(Protocol):
    """A service beside the local file."""

    def start(self, directory: Path, name: str, settings: dict) -> None: ...

    def log(self, step: int, values: dict) -> None: ...

    def picture(self, step: int, title: str, path: Path) -> None: ...

    def finish(self) -> None: ...


def no_tracker() -> None:
    """The tracker of `logger=none`."""


class RunLog:
    """metrics.jsonl of a run, one JSON object a line, and the tracker if there is one; writes on the main process only.

    Whatever a tracker raises becomes one warning, and the run goes on without it.
    """

    def __init__(self, directory: Path, tracker: Tracker | None, settings: dict):
        self._path = directory / "metrics.jsonl"
        self._tracker = tracker if distributed.is_main() else None
        if self._tracker is not None:
            self._guard(self._tracker.start, directory, directory.name, settings)

    def log(self, step: int, values: dict) -> None:
        """Writes numbers at a step (optimizer steps since the start of training)."""
        if distributed.is_main():
            with open(self._path, "a") as file:
                file.write(json.dumps({"step": step, **{k: _finite(v) for k, v in values.items()}}) + "\n")
        if self._tracker is not None:
            self._guard(self._tracker.log, step, values)

    def picture(self, step: int, title: str, path: Path) -> None:
        if self._tracker is not None:
            self._guard(self._tracker.picture, step, title, path)

    def finish(self) -> None:
        if self._tracker is not None:
            self._guard(self._tracker.finish)

    def rewind(self, step: int) -> None:
        """Drops the lines after `step`: a run that goes on from there will write them again."""
        if distributed.is_main() and self._path.exists():
            lines = [line for line in self._path.read_text().splitlines() if json.loads(line)["step"] <= step]
            self._path.write_text("".join(line + "\n" for line in lines))

    def _guard(self, call: Callable, *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:
            log.warning("logger: %s: %s; the run goes on with metrics.jsonl alone", type(error).__name__, error)
            self._tracker = None


def _finite(value: object) -> object:
    """JSON has no nan and no infinity: other programs would refuse the file."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Wandb:
    """Weights & Biases: online when a key is configured and the server answers, else offline into the run directory."""

    def __init__(self, project: str = "sam-ft", mode: str = "auto", timeout: float = 15.0):
        self.project = project
        self.mode = mode
        self.timeout = timeout

    def start(self, directory: Path, name: str, settings: dict) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # it prints a dozen lines around every run otherwise
        import wandb  # takes a second: only those who log to it pay

        self._wandb = wandb
        # $WANDB_MODE is the user's word too, and the stronger one
        mode = os.environ.get("WANDB_MODE") or (self._choose_mode() if self.mode == "auto" else self.mode)
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
            settings=self._wandb.Settings(init_timeout=self.timeout, console="off", disable_git=True),
        )

    def _choose_mode(self) -> str:
        settings = self._wandb.setup().settings
        if not (settings.api_key or self._wandb.api.api_key):
            return "offline"
        url = urlsplit(settings.base_url)
        try:  # wandb itself would try for minutes, and then raise
            socket.create_connection((url.hostname, url.port or 443), timeout=3).close()
        except OSError as error:
            log.warning("wandb: %s cannot be reached (%s); logging offline", url.netloc, error)
            return "offline"
        return "online"

    def log(self, step: int, values: dict) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, title: str, path: Path) -> None:
        self._run.log({title: self._wandb.Image(str(path))}, step=step)

    def finish(self) -> None:
        """Waits for uploads, but not for ever: a server lost in mid-run must not keep the process alive."""
        worker = threading.Thread(target=self._run.finish, daemon=True)
        worker.start()
        worker.join(60)
        if worker.is_alive():
            log.warning("wandb: upload not finished after 60 s; `wandb sync` %s later", Path(self._run.dir).parent)
