"""The log of a run's numbers: always a local file, optionally trackers, which never stop the training."""

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from sam_ft.training.loggers import Tracker
from sam_ft.utils import distributed
from sam_ft.utils.disk import OptionalFiles, writing
from sam_ft.utils.files import as_json, write_atomic

log = logging.getLogger("sam_ft")


class RunLog:
    """Writes metrics.jsonl, one JSON object per line, and calls the trackers; on the main process only.

    Any exception of a tracker becomes one warning, and the run continues without it; so does a full disk.

    trackers: by the choice of `logger`
    """

    def __init__(self, directory: Path, trackers: Mapping[str, Tracker], settings: dict):
        self._path = directory / "metrics.jsonl"
        self._file = OptionalFiles("it will lack metrics")
        # Empty on the other processes: every method below does nothing then.
        self._trackers = dict(trackers) if distributed.is_main() else {}
        self._track(lambda tracker: tracker.start(directory, directory.name, settings))

    def log(self, step: int, values: dict) -> None:
        """Logs metrics at an optimizer step, counted from the start of training."""
        if distributed.is_main():
            line = as_json({"step": step, **values}) + "\n"
            self._file.write(self._path, lambda: _append(self._path, line.encode()))
        self._track(lambda tracker: tracker.log(step, values))

    def picture(self, step: int, title: str, path: Path) -> None:
        self._track(lambda tracker: tracker.picture(step, title, path))

    def finish(self, failed: bool = False) -> None:
        self._track(lambda tracker: tracker.finish(failed))
        self._trackers = {}  # finish only once

    def rewind(self, step: int, epoch: float = math.inf) -> None:
        """Removes lines that a resumed run writes again, and an incomplete line.

        step: the last one that stays · epoch: the last one of which the validation stays
        """
        if distributed.is_main() and self._path.exists():
            self._file.write(self._path, lambda: _keep_lines(self._path, step, epoch))
        self._track(lambda tracker: tracker.rewind(step))

    def _track(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # a tracker may raise any type, and must not end the run
                log.warning("logger=%s: %s: %s; the run continues without it", name, type(error).__name__, error)
                del self._trackers[name]


def _append(path: Path, line: bytes) -> None:
    """Appends a line, or nothing if the disk is full: a partial line would also corrupt the next one."""
    with writing(path, len(line)), open(path, "ab", buffering=0) as file:
        size = file.tell()
        if file.write(line) < len(line):
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _keep_lines(path: Path, last_step: int, last_epoch: float) -> None:
    lines = path.read_text(errors="replace").splitlines()
    write_atomic(path, "".join(line + "\n" for line in lines if _is_before(line, last_step, last_epoch)))


def _is_before(line: str, last_step: int, last_epoch: float) -> bool:
    """False also for a line that a crash left incomplete."""
    try:
        row = json.loads(line)
        # The line of a step has its learning rate; that of its epoch's end comes after it, with the same step.
        return row["step"] <= last_step and ("lr" in row or row.get("epoch", 0) <= last_epoch)
    except (ValueError, KeyError, TypeError):
        return False
