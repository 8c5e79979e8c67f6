"""Where the project's log goes: the screen and a run's train.log, on the main process."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sam_ft.cli.exit import discard_stdout
from sam_ft.utils import distributed
from sam_ft.utils.disk import NO_ROOM, write_error


class Screen(logging.StreamHandler):
    """Standard output; where its reader has gone, as after `| head`, or its disk is full, the log goes to its file."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            discard_stdout()
        else:
            super().handleError(record)


class LogFile(logging.FileHandler):
    """A file; while its disk is full it lacks lines, which one warning on stderr says."""

    _warned = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._warned:
            self._warned = True
            size = len(self.format(record)) + 1
            sys.stderr.write(f"warning: {write_error(Path(self.baseFilename), error, size)}; it will lack lines\n")

    def close(self) -> None:
        with suppress(OSError):  # lines that found no room, once more
            super().close()


@contextmanager
def log_to(file: Path | None = None) -> Iterator[None]:
    """Sends the project's log to the screen and to a file on the main process; the others report errors only."""
    handlers: list[logging.Handler] = []
    if distributed.is_main():
        screen = Screen(sys.stdout)
        screen.setFormatter(logging.Formatter("%(message)s"))
        handlers.append(screen)
        if file is not None:
            handlers.append(LogFile(file))
            handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("sam_ft")
    log.setLevel(logging.INFO if distributed.is_main() else logging.ERROR)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
