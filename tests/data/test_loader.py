import multiprocessing
import os
import signal
import subprocess
from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.io.id_masks import IdMasks
from sam_ft.data.loader import TrainingBatches, TrainingLoader, evaluation_loader, make_loader
from sam_ft.data.sources.folder import Folder
from sam_ft.data.transforms import Augment
from sam_ft.types import dense
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError
from tests.support.blobs import Blobs, write_folder

COUNTS = [1, 2, 0, 3, 1, 2, 1]
IMAGES = [0, 1, 3, 4, 5, 6]  # those with objects


def training_set():
    return TrainingSet(Blobs(COUNTS), Augment([]), 64, None, seed=0)


def batches(batch_size=4, micro_batch_size=None, epoch=1, rank=0, world=1, monkeypatch=None):
    """The positions in the micro-batches of each step of one process."""
    if monkeypatch:
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
    sampler = TrainingBatches(IMAGES, training_set().draw, batch_size, micro_batch_size, seed=0)
    sampler.epoch = epoch
    found = [[draw.image for draw in micro] for micro in sampler]
    assert len(found) == len(sampler) == sampler.steps * sampler.per_step
    return [found[start : start + sampler.per_step] for start in range(0, len(found), sampler.per_step)]


def test_an_epoch_has_each_image_with_objects_once_in_another_order_than_the_last():
    first, again, second = (batches(epoch=epoch) for epoch in (1, 1, 2))
    assert first == again != second
    assert [len(micro) for (micro,) in first] == [4, 2]
    for steps in (first, second):
        assert sorted(image for (micro,) in steps for image in micro) == IMAGES


def test_micro_batches_and_processes_share_the_same_steps(monkeypatch):
    whole = [micro for (micro,) in batches()]
    assert [list(chain(*micros)) for micros in batches(micro_batch_size=3)] == whole
    assert [[len(micro) for micro in micros] for micros in batches(micro_batch_size=3)] == [[3, 1], [2, 0]]
    for micro_batch_size in (None, 1):
        one, two = (batches(4, micro_batch_size, rank=r, world=2, monkeypatch=monkeypatch) for r in (0, 1))
        assert [len(micros) for micros in one] == [len(micros) for micros in two]  # no process waits for ever
        for images, mine, theirs in zip(whole, one, two, strict=True):
            assert list(chain(*mine)) == images[::2]
            assert list(chain(*theirs)) == images[1::2]


def test_a_process_without_an_image_gets_empty_micro_batches(monkeypatch):
    shares = [batches(5, None, rank=rank, world=2, monkeypatch=monkeypatch) for rank in (0, 1)]
    assert [[len(micro) for (micro,) in share] for share in shares] == [[3, 1], [2, 0]]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_loader_gives_the_micro_batches_of_each_step(workers):
    loader = TrainingLoader(training_set(), IMAGES, batch_size=4, micro_batch_size=3, seed=0, workers=workers)
    assert (loader.steps, loader.micro_batch_size) == (2, 3)
    names = [[batch.names for batch in micro_batches] for micro_batches in loader.epoch(1)]
    assert names == [[[f"blobs_{image}" for image in micro] for micro in micros] for micros in batches(4, 3)]
    assert len(list(loader.epoch(2))) == 2


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_epoch_that_goes_on_has_the_same_steps_as_a_whole_one(workers):
    loader = TrainingLoader(training_set(), IMAGES, batch_size=2, micro_batch_size=1, seed=0, workers=workers)
    whole, rest, none = (list(loader.epoch(1, first_step=first)) for first in (0, 1, 3))
    assert (len(whole), len(rest), len(none)) == (3, 2, 0)
    for step, again in zip(whole[1:], rest, strict=True):
        assert [batch.names for batch in step] == [batch.names for batch in again]
        assert all(torch.equal(one.images, other.images) for one, other in zip(step, again, strict=True))
    assert len(list(loader.epoch(2))) == 3  # the next one is whole


class Pids:
    """Samples that say in which process they were read."""

    split = SimpleNamespace(names=["a"])

    def __getitems__(self, indices):
        return os.getpid()


@pytest.mark.slow
def test_workers_leave_signals_to_the_main_process_which_can_still_end_them():
    pids = make_loader(Pids(), [[0]] * 40, workers=1)  # it keeps its worker
    loader = iter(pids)
    pid = next(loader)
    assert pid != os.getpid()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):  # of another process, as torchrun
        subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)
    assert set(loader) == {pid}
    (worker,) = (child for child in multiprocessing.active_children() if child.pid == pid)
    assert worker.is_alive()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker.terminate()
    worker.join(timeout=30)
    signal.signal(signal.SIGCHLD, handler)
    assert worker.exitcode == 0


def test_each_image_is_evaluated_once_by_one_process(monkeypatch):
    dataset, seen = EvaluationSet(Blobs(COUNTS), 64), []
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seen += [batch.names for batch in evaluation_loader(dataset, eval_batch_size=3, workers=0)]
    assert [len(names) for names in seen] == [3, 1, 3]
    assert sorted(chain(*seen)) == dataset.split.names


@pytest.mark.parametrize(("device", "size"), [("cpu", 1), ("cuda", 4)])
def test_an_evaluation_takes_one_image_at_a_time_on_a_cpu_and_four_on_a_gpu(monkeypatch, device, size):
    monkeypatch.setattr(distributed, "device", lambda: torch.device(device))
    loader = evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), eval_batch_size=None, workers=0)
    assert [len(images) for images in loader.batch_sampler] == [size] * (7 // size) + [7 % size] * (size > 1)


@pytest.mark.slow
def test_compact_masks_come_from_a_worker_as_they_are(tmp_path):
    split = Folder(write_folder(tmp_path / "data", [3, 0, 5]), mask_folder="instances", objects="instances").split(
        "val"
    )
    (batch,) = evaluation_loader(EvaluationSet(split, 64), 2, workers=1)
    assert isinstance(batch.originals[0].masks, IdMasks)
    assert torch.equal(dense(batch.originals[0].masks), dense(split[0].masks))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_user_s_mistake_in_a_worker_is_raised_as_it_is(monkeypatch, workers):
    def unreadable(self, index):
        raise DataError("x.png: cannot be read")

    monkeypatch.setattr(Blobs, "__getitem__", unreadable)
    with pytest.raises(DataError, match=r"^x\.png: cannot be read$"):
        list(evaluation_loader(EvaluationSet(Blobs(COUNTS), 64), 3, workers))


def test_the_random_state_of_torch_stays():
    before = torch.random.get_rng_state()
    batches()
    assert torch.equal(torch.random.get_rng_state(), before)
