"""Which images each process sees at each step, and the DataLoaders that bring them as batches.

All randomness hangs on (seed, epoch, image name). So the samples of an epoch are the same for any number of
processes, workers and micro-batches, and a resumed run sees what an uninterrupted one would have seen.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sam_ft import distributed
from sam_ft.data.folder import Survey
from sam_ft.errors import DataError, UserError
from sam_ft.seeds import seed_of
from sam_ft.transforms import Augment, ResizeLongestSide
from sam_ft.types import Batch, Sample, collate

T = TypeVar("T")

log = logging.getLogger("sam_ft")


class Split(Protocol):
    """What a data set offers for one of its splits: names, samples by position, and a count of what there is."""

    names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def survey(self) -> Survey: ...


def survey(split: Split, name: str) -> Survey:
    """Reads all masks of a split before the model is built, so that what is wrong with any of them is said now."""
    found = split.survey()
    without = f", {len(found.empty)} of them without any (skipped)" if found.empty else ""
    log.info("%s: %d images with %d objects%s", name, found.images, found.objects, without)
    if not found.objects:
        raise DataError(f"the {name} images hold no objects at all; look at data.mask_folder and data.objects")
    return found


class Draw(NamedTuple):
    """An image to load, in a certain epoch; the epoch travels with it, so workers need not be told."""

    epoch: int
    image: int


class TrainingSet(Dataset):
    """Augmented samples at the model's input side with at most `max_objects` objects each, all by seed."""

    def __init__(self, split: Split, augment: Augment, image_size: int, max_objects: int | None, seed: int):
        self.split = split
        self.augment = augment
        self.resize = ResizeLongestSide(image_size)
        self.max_objects = max_objects
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample | UserError:
        return _or_error(self._sample, draw)

    def _sample(self, draw: Draw) -> Sample:
        sample = self.split[draw.image]
        seed = seed_of(self.seed, draw.epoch, sample.name)
        if self.max_objects is not None and len(sample.masks) > self.max_objects:
            order = torch.randperm(len(sample.masks), generator=torch.Generator().manual_seed(seed))
            sample = sample.select(order[: self.max_objects].sort().values)
        return self.resize(self.augment(sample, seed))


class EvaluationSet(Dataset):
    """Samples as they are, all objects, with the original masks beside them."""

    def __init__(self, split: Split, image_size: int):
        self.split = split
        self.resize = ResizeLongestSide(image_size, keep_original=True)

    def __getitem__(self, index: int) -> Sample | UserError:
        return _or_error(self.sample, index)

    def sample(self, index: int) -> Sample:
        return self.resize(self.split[index])


class TrainingBatches(Sampler):
    """Micro-batches of one epoch for this process: `per_step` of them make its share of one global batch.

    images: positions of those to train on, which leaves out the ones without objects

    Every global batch is `batch_size` images of a seeded shuffle; process r takes its images r, r + world, ... The
    last global batch is smaller, and a process may get fewer images of it or none: then lists are shorter or empty,
    but their number is the same everywhere, so that no process waits for another for ever.
    """

    def __init__(self, images: Sequence[int], batch_size: int, micro_batch_size: int | None, seed: int):
        share = -(-batch_size // distributed.world_size())
        self.micro_batch_size = min(micro_batch_size or share, share)
        self.per_step = -(-share // self.micro_batch_size)
        self.images = list(images)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    @property
    def steps(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * self.per_step

    def __iter__(self) -> Iterator[list[Draw]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        order = torch.randperm(len(self.images), generator=generator).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            own = batch[distributed.rank() :: distributed.world_size()]
            share = [Draw(self.epoch, self.images[place]) for place in own]
            for micro in range(self.per_step):
                yield share[micro * self.micro_batch_size : (micro + 1) * self.micro_batch_size]


class Loader(DataLoader):
    """A DataLoader that raises a user's mistake as it was said, and not as a worker's traceback."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training_loader(dataset: TrainingSet, batches: TrainingBatches, workers: int) -> Loader:
    """Yields this process's micro-batches of the epoch `batches.epoch`."""
    return _loader(dataset, batches, dataset.resize.side, workers)


def evaluation_loader(dataset: EvaluationSet, images_per_batch: int, workers: int) -> Loader:
    """Yields this process's share of the images, each image on exactly one process and never twice."""
    share = range(distributed.rank(), len(dataset.split), distributed.world_size())
    batches = [list(share[i : i + images_per_batch]) for i in range(0, len(share), images_per_batch)]
    return _loader(dataset, batches, dataset.resize.side, workers)


def _loader(dataset: Dataset, batches, image_size: int, workers: int) -> Loader:
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    cores = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    workers = min(workers, cores // processes)
    return Loader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=partial(_collate_or_error, image_size=image_size),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        timeout=300 if workers else 0,  # a worker that hangs must not hang the run
    )


def _or_error(load: Callable[[T], Sample], key: T) -> Sample | UserError:
    """Hands a mistake on as a value: what a worker raises reaches the main process wrapped in its traceback."""
    try:
        return load(key)
    except UserError as error:
        return error


def _collate_or_error(samples: Sequence[Sample | UserError], image_size: int) -> Batch | UserError:
    good = [sample for sample in samples if isinstance(sample, Sample)]
    bad = [sample for sample in samples if isinstance(sample, UserError)]
    return bad[0] if bad else collate(good, image_size)
