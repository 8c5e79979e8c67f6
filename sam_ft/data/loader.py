"""The DataLoaders, and which images each process sees at each step.

All randomness depends on (seed, epoch, image name). So the samples of an epoch are the same for any number of
processes, workers and micro-batches, and a resumed run sees what an uninterrupted one would have seen.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sam_ft.data.datasets import Draw, EvaluationSet, TrainingSet
from sam_ft.data.workers import ANSWERS, WorkerWatch
from sam_ft.types import Batch
from sam_ft.utils import distributed
from sam_ft.utils.errors import UserError
from sam_ft.utils.seeds import derive_seed

T = TypeVar("T")

WORKER_SECONDS = 300.0  # for a batch


class TrainingBatches(Sampler):
    """Micro-batches of one epoch for this process: `per_step` of them make its share of one global batch.

    images: positions of those to train on, which leaves out the ones without objects
    draw: the view of an image in an epoch

    Every global batch is `batch_size` images of a seeded shuffle; process r takes its images r, r + world, ... The
    last global batch is smaller, and a process may get fewer images of it or none: then lists are shorter or empty,
    but their number is the same everywhere, so that no process waits forever.
    """

    def __init__(
        self,
        images: Sequence[int],
        draw: Callable[[int, int], Draw],
        batch_size: int,
        micro_batch_size: int | None,
        seed: int,
    ) -> None:
        # The largest share of a process; rounded up, as others may have one image less.
        share = -(-batch_size // distributed.world_size())
        self.micro_batch_size = min(micro_batch_size or share, share)
        self.per_step = -(-share // self.micro_batch_size)
        self.images = list(images)
        self.draw = draw
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.first_step = 0  # of the epoch; a resumed run leaves out those before it

    @property
    def steps(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step) * self.per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(len(self.images), generator=generator).tolist()
        for start in range(self.first_step * self.batch_size, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            # Shuffled before it is shared out: global batches are the same for any number of processes.
            own = batch[distributed.rank() :: distributed.world_size()]
            share = [self.draw(self.epoch, self.images[place]) for place in own]
            # Slices beyond the end are empty, so every process yields as many lists.
            for micro in range(self.per_step):
                yield share[micro * self.micro_batch_size : (micro + 1) * self.micro_batch_size]


class TrainingLoader:
    """Yields for each step of an epoch the micro-batches of this process.

    images: positions of those to train on · batch_size: images of a step, over all processes
    micro_batch_size: images at once on one process; None for all of its share
    """

    def __init__(
        self,
        dataset: TrainingSet,
        images: Sequence[int],
        batch_size: int,
        micro_batch_size: int | None,
        seed: int,
        workers: int,
    ) -> None:
        self._batches = TrainingBatches(images, dataset.draw, batch_size, micro_batch_size, seed)
        self._loader = make_loader(dataset, self._batches, workers)
        self.steps = self._batches.steps
        self.micro_batch_size = self._batches.micro_batch_size

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[Batch]]:
        """The steps of an epoch from `first_step` on, the same as in an epoch from its start."""
        self._batches.epoch, self._batches.first_step = epoch, first_step
        # The loader's batches are micro-batches; every `per_step` of them are one step.
        batches = iter(self._loader)
        while micro_batches := list(islice(batches, self._batches.per_step)):
            yield micro_batches


class Loader(DataLoader):
    """A DataLoader that raises a user's mistake itself instead of the traceback of a worker.

    A worker that is killed, or returns no batch for `WORKER_SECONDS`, ends it with a TrainingError.
    """

    def __init__(self, dataset: Dataset, batches: Iterable[list], **options: Any) -> None:
        self.given: dict[int, list] = {}  # batches that workers have and the loop has not yet, by their number
        super().__init__(dataset, batch_sampler=Recorded(batches, self.given), **options)

    def __iter__(self) -> Iterator:  # type: ignore[override]
        self.given.clear()
        running = self._start()
        watch = None
        if self.num_workers:
            self._watch = watch = self._watch_workers(running)
        try:
            for number in count():
                batch = self._wait_for(number, running, watch)
                if batch is None:
                    break
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        finally:
            if watch is not None:
                watch.stop()

    def _start(self) -> Iterator:
        """torch's iterator, for which workers of an earlier pass have to answer. Raises: TrainingError"""
        earlier = self._iterator
        if earlier is None:
            with _without_sigterm():
                return super().__iter__()
        watch = self._watch_workers(earlier)
        watch.awaited = ANSWERS
        try:
            return super().__iter__()
        except Exception as error:
            raise watch.explain(error) or error from None
        finally:
            watch.stop()

    def _watch_workers(self, running: Iterator) -> WorkerWatch:
        return WorkerWatch(self.dataset.split.names, running, self.given, WORKER_SECONDS)  # type: ignore[attr-defined]

    def _wait_for(self, number: int, running: Iterator, watch: WorkerWatch | None) -> Any:
        """A batch, None after the last one. Raises: TrainingError"""
        if watch is None:
            batch = next(running, None)
        else:
            watch.awaited = number
            try:
                batch = next(running, None)
            except Exception as error:  # of a connection, of torch, or by the name of the signal
                raise watch.explain(error) or error from None
            watch.awaited = None
        self.given.pop(number, None)
        return batch


class Recorded(Sampler):
    """The batches of a loader, each noted in `given` as it goes to a worker."""

    def __init__(self, batches: Iterable[list], given: dict[int, list]) -> None:
        self.batches, self.given = batches, given

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list]:
        for number, batch in enumerate(self.batches):
            self.given[number] = batch
            yield batch


def evaluation_loader(dataset: EvaluationSet, eval_batch_size: int | None, workers: int) -> Loader:
    """Yields this process's share of the images, each image on exactly one process and never twice.

    eval_batch_size: images at once; None for 1 on a CPU and 4 on a GPU
    """
    # A CPU encodes one image at a time, so more of them would only fill memory.
    images = eval_batch_size or (1 if distributed.device().type == "cpu" else 4)
    # No padding to equal shares: a repeated image would count twice in the scores.
    share = range(distributed.rank(), len(dataset), distributed.world_size())
    batches = [list(share[i : i + images]) for i in range(0, len(share), images)]
    return make_loader(dataset, batches, workers)


def make_loader(dataset: Dataset, batches: Iterable[list], workers: int, persistent: bool = True) -> Loader:
    """A loader of the batches that `dataset.__getitems__` makes of each list of indices."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    workers = min(workers, cores // processes)  # 0: in this process
    return Loader(
        dataset,
        batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=persistent and workers > 0,
        worker_init_fn=_leave_signals_to_main,
    )


@contextmanager
def _without_sigterm() -> Iterator[None]:
    """Context in which workers start: all of their threads leave SIGTERM to `sigwaitinfo`, also those of libraries."""
    if not hasattr(signal, "sigwaitinfo"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_main(_: int) -> None:
    """A terminal, Slurm and torchrun send a signal to all processes of a group; the main one ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on Windows and macOS
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        threading.Thread(target=_end_when_told_by, args=(os.getppid(),), daemon=True).start()


def _end_when_told_by(main: int) -> None:
    """Ends a worker at a SIGTERM of its main process alone, which may still need it for the step that it finishes."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != main:
        pass
    os._exit(0)


def _as_it_is(batch: T) -> T:
    return batch
