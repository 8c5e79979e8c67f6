"""Which images each process sees at each step, and the DataLoaders that bring them as batches.

All randomness hangs on (seed, epoch, image name). So the samples of an epoch are the same for any number of
processes, workers and micro-batches, and a resumed run sees what an uninterrupted one would have seen.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sam_ft.data.datasets import Draw, EvaluationSet, Split, TrainingSet
from sam_ft.data.sources.survey import Survey, about_parts
from sam_ft.types import Batch, Sample, collate
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError, UserError
from sam_ft.utils.seeds import derive_seed

log = logging.getLogger("sam_ft")

T = TypeVar("T")


def survey(split: Split, name: str) -> Survey:
    """Reads all masks of a split before the model is built, so that what is wrong with any of them is said now."""
    found = split.survey()
    without = f", {len(found.empty)} of them without any (skipped)" if found.empty else ""
    log.info("%s: %d images with %d objects%s", name, found.images, found.objects, without)
    if name == "train" and (about := about_parts(found.parts)):
        log.info("%s: %s; %s", name, *about)
    if not found.objects:
        raise DataError(
            f"the {name} images hold no objects at all; look at the masks, and at the data.* settings that say which "
            "of their values are objects"
        )
    return found


def open_both(data) -> tuple[Split, Split]:
    """The splits train and val of a data set. Raises: DataError about all that is wrong with either."""
    train, val = _all_or_error([lambda: data.split("train"), lambda: data.split("val")])
    return train, val


def survey_both(train: Split, val: Split) -> tuple[Survey, Survey]:
    """`survey` of both splits. Raises: DataError about all that is wrong with either."""
    found = _all_or_error([lambda: survey(train, "train"), lambda: survey(val, "val")])
    return found[0], found[1]


def _all_or_error(acts: Sequence[Callable[[], T]]) -> list[T]:
    done, problems = [], []
    for act in acts:
        try:
            done.append(act())
        except DataError as error:
            problems.append(str(error))
    if problems:
        text = "\n".join(dict.fromkeys(problems))  # what is wrong with both splits is said once
        raise DataError(
            f"{text}\n`python -m sam_ft.check` with the same data=... reads everything, and lists all there is"
        )
    return done


class TrainingBatches(Sampler):
    """Micro-batches of one epoch for this process: `per_step` of them make its share of one global batch.

    images: positions of those to train on, which leaves out the ones without objects
    draw: what an image looks like in an epoch

    Every global batch is `batch_size` images of a seeded shuffle; process r takes its images r, r + world, ... The
    last global batch is smaller, and a process may get fewer images of it or none: then lists are shorter or empty,
    but their number is the same everywhere, so that no process waits for another for ever.
    """

    def __init__(
        self,
        images: Sequence[int],
        draw: Callable[[int, int], Draw],
        batch_size: int,
        micro_batch_size: int | None,
        seed: int,
    ) -> None:
        share = -(-batch_size // distributed.world_size())
        self.micro_batch_size = min(micro_batch_size or share, share)
        self.per_step = -(-share // self.micro_batch_size)
        self.images = list(images)
        self.draw = draw
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    @property
    def steps(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * self.per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(len(self.images), generator=generator).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            own = batch[distributed.rank() :: distributed.world_size()]
            share = [self.draw(self.epoch, self.images[place]) for place in own]
            for micro in range(self.per_step):
                yield share[micro * self.micro_batch_size : (micro + 1) * self.micro_batch_size]


class Loader(DataLoader):
    """A DataLoader that raises a user's mistake as it was said, and not as a worker's traceback."""

    def __iter__(self) -> Iterator:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_loader(dataset: TrainingSet, batches: TrainingBatches, workers: int) -> Loader:
    """Yields this process's micro-batches of the epoch `batches.epoch`."""
    return make_loader(dataset, batches, workers, partial(_collate_or_error, image_size=dataset.resize.side))


def evaluation_loader(dataset: EvaluationSet, images_per_batch: int, workers: int) -> Loader:
    """Yields this process's share of the images, each image on exactly one process and never twice."""
    share = range(distributed.rank(), len(dataset.split), distributed.world_size())
    batches = [list(share[i : i + images_per_batch]) for i in range(0, len(share), images_per_batch)]
    return make_loader(dataset, batches, workers, partial(_collate_or_error, image_size=dataset.resize.side))


def make_loader(dataset: Dataset, batches, workers: int, collate_fn: Callable, persistent: bool = True) -> Loader:
    """A loader of `batches`, an iterable of lists of the data set's indices."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    workers = min(workers, cores // processes)
    return Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=persistent and workers > 0,
        timeout=300 if workers else 0,  # a worker that hangs must not hang the run
        worker_init_fn=_leave_interrupts_to_main,
    )


def _leave_interrupts_to_main(_: int) -> None:
    """A terminal sends Ctrl-C to all processes; the main one ends its workers, and speaks for them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate_or_error(samples: Sequence[Sample | UserError], image_size: int) -> Batch | UserError:
    good = [sample for sample in samples if isinstance(sample, Sample)]
    bad = [sample for sample in samples if isinstance(sample, UserError)]
    return bad[0] if bad else collate(good, image_size)
