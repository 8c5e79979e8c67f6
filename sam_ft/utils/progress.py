"""A progress bar with the time left; in a log file, where no bar shows, lines of the log instead."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

from sam_ft.utils import distributed

log = logging.getLogger("sam_ft")

T = TypeVar("T")

LOG_SECONDS = 15.0  # between two lines


def progress(items: Sequence[T], title: str) -> Iterator[T]:
    """Yields the items of this process; the main one shows its own progress."""
    started = logged = time.perf_counter()
    with tqdm(items, title, leave=False, disable=None if distributed.is_main() else True) as bar:
        for done, item in enumerate(bar):
            now = time.perf_counter()
            if bar.disable and done and now - logged >= LOG_SECONDS:
                logged = now
                left = tqdm.format_interval((now - started) / done * (len(items) - done))
                log.info("%s: %.0f %% done, about %s left", title, 100 * done / len(items), left)
            yield item
