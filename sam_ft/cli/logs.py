"""Where the project's log goes: the screen and a run's train.log, on the main process."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_ft.cli.exit import discard_stdout
from sam_ft.utils import distributed


class Screen(logging.StreamHandler):
    """Standard output; once its reader has gone, as after `| head`, the run continues and logs to its file alone."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            discard_stdout()
        else:
            super().handleError(record)


@contextmanager
def log_to(file: Path | None = None) -> Iterator[None]:
    """Sends the project's log to the screen and to a file on the main process; the others report errors only."""
    handlers: list[logging.Handler] = []
    if distributed.is_main():
        screen = Screen(sys.stdout)
        screen.setFormatter(logging.Formatter("%(message)s"))
        handlers.append(screen)
        if file is not None:
            handlers.append(logging.FileHandler(file))
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
