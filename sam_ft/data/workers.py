"""A loader's worker that was killed or stands still: which one, the files it was reading, and the likely reason."""

import atexit
import os
import shutil
import signal
import threading
import weakref
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from torch.utils.data._utils.signal_handling import _remove_worker_pids

from sam_ft.data.datasets import Draw
from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import TrainingError

SHARED_MEMORY = "/dev/shm"
NO_SHARED_MEMORY = ("No space left on device", "shared memory", "torch_shm")
TICK = 1.0  # seconds
ANSWERS = -1  # in the place of the number of a batch
# by the letter of a process in /proc
STILL = {"T": "it was stopped (SIGSTOP)", "t": "it was stopped by a debugger", "D": "its disk does not respond"}

_watches: "weakref.WeakSet[WorkerWatch]" = weakref.WeakSet()


class WorkerWatch:
    """Watches the workers of one pass through a loader, in a thread.

    torch has a time limit too, but it waits for ever for the memory of a batch that a stopped worker has announced.

    names: of the images of the data set · running: torch's iterator
    given: the batches that workers have and the loop has not yet, by their number
    awaited: the number of the batch that the loop waits for; `ANSWERS` where it waits for all workers to begin another
        pass; None while it computes
    """

    def __init__(self, names: Any, running: Any, given: dict[int, list], seconds: float) -> None:
        self._names, self._given, self._seconds = names, given, seconds
        self.workers = running._workers
        self.awaited: int | None = None
        self._silence = ""
        self._running = weakref.ref(running)
        self._stop = threading.Event()
        _watches.add(self)
        threading.Thread(target=self._watch, name="workers", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _watch(self) -> None:
        waited, last = 0.0, None
        # A count and not the clock: all processes may have been stopped and continued together.
        while not self._stop.wait(TICK):
            waited = waited + TICK if self.awaited is not None and self.awaited == last else 0.0
            last = self.awaited
            if last is not None and waited >= self._seconds:
                worker = self._silent_worker(last)
                self._silence = _describe_silence(worker.pid, self._seconds)
                worker.kill()  # the loop wakes up with an error
                return

    def _silent_worker(self, awaited: int) -> Any:
        if awaited != ANSWERS:
            return self.workers[awaited % len(self.workers)]  # batches go round
        return next((worker for worker in self.workers if _state(worker.pid) in STILL), self.workers[0])

    def explain(self, error: Exception) -> TrainingError | None:
        """The error of the loop with the files and the reason; None if no worker has failed. Ends the others."""
        self._take_over()
        closed = wait([worker.sentinel for worker in self.workers], timeout=0.5)
        for worker in self.workers:
            if worker.sentinel in closed:  # its connections end a moment before it does
                worker.join(5.0)
        ended = [place for place, worker in enumerate(self.workers) if worker.exitcode]
        if self._silence:
            what = self._silence
        elif ended:
            what = _describe_end(self.workers[ended[0]])
        elif any(words in str(error) for words in NO_SHARED_MEMORY):
            what = f"a loader worker failed: {_full_shared_memory()}"
        else:
            return None
        given = [
            self._names[_image(item)]
            for number, batch in sorted(self._given.items())
            if not ended or number % len(self.workers) in ended
            for item in batch
        ]
        self.end_workers()
        return TrainingError(f"{what}. The last files that it was given: {join_names(given) or 'none'}")

    def _take_over(self) -> None:
        """Keeps torch from raising an error of its own, at any place, as soon as it learns that a worker has ended."""
        running = self._running()
        if running is not None and running._worker_pids_set:
            _remove_worker_pids(id(running))
            running._worker_pids_set = False

    def end_workers(self) -> None:
        """Kills them: one that was stopped would not end by itself, and Python would wait for it."""
        self.stop()
        _watches.discard(self)
        self._take_over()
        for worker in self.workers:
            worker.kill()


def explain_worker_failure(error: Exception) -> TrainingError | None:
    """The same for an error outside of the loader: torch may raise it anywhere as soon as a worker ends."""
    explained = (watch.explain(error) for watch in list(_watches) if "DataLoader worker" in str(error))
    return next(filter(None, explained), None)


@atexit.register  # it runs before multiprocessing's own function, which waits for the workers
def end_all_workers() -> None:
    for watch in list(_watches):
        watch.end_workers()


def _describe_end(worker: Any) -> str:
    number = -worker.exitcode
    name = signal.Signals(number).name if number in {*signal.Signals} else f"exit code {worker.exitcode}"
    what = f"a loader worker (pid {worker.pid}) was ended by {name}"
    if number == getattr(signal, "SIGKILL", None):
        return f"{what}, most likely because main memory has run out ({_free_memory()}): set fewer workers="
    if number == getattr(signal, "SIGBUS", None):
        return f"{what}: {_full_shared_memory()}"
    return f"{what}; with workers=0 the reason shows"


def _describe_silence(pid: int, seconds: float) -> str:
    reason = STILL.get(_state(pid), "its files are very large, or their disk is slow")
    return f"a loader worker (pid {pid}) has returned no batch for {seconds:g} s: {reason}"


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _full_shared_memory() -> str:
    with suppress(OSError):
        size, _, free = shutil.disk_usage(SHARED_MEMORY)
        return (
            f"{SHARED_MEMORY} is full ({free:,} of {size:,} bytes free): start the container with more (docker run "
            "--shm-size=8g), or set workers=0"
        )
    return f"{SHARED_MEMORY} is full; set workers=0"


def _free_memory() -> str:
    with suppress(OSError, ValueError, AttributeError):
        return f"{os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB are free now"
    return "see the system's log"


def _image(item: Any) -> int:
    """The position of an image in its split: see `datasets` and `cache.views`."""
    return item.image if isinstance(item, Draw) else item if isinstance(item, int) else item[0]
