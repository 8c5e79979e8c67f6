"""A worker that is killed or stands still ends the loading, with its files and the likely reason."""

import os
import signal
import time
from multiprocessing import active_children

import pytest
import torch

from sam_ft.data import loader as loader_module
from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.data.workers import end_all_workers, explain_worker_failure
from sam_ft.utils.errors import TrainingError
from tests.support.blobs import Blobs

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows has no such signals")


class Faulty(Blobs):
    """Its image 5 acts on the worker that reads it."""

    act = staticmethod(lambda: None)

    def __getitem__(self, index):
        if index == 5:
            self.act()
        return super().__getitem__(index)


@pytest.fixture
def failure(monkeypatch):
    """`failure(act)`: the error of a loader with two workers, one of which does `act`."""
    monkeypatch.setattr(loader_module, "WORKER_SECONDS", 6)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)

    def run(act):
        split = Faulty([1] * 8)
        split.act = act
        batches = evaluation_loader(EvaluationSet(split, 64), 1, 2)
        with pytest.raises(TrainingError) as caught:
            list(batches)
        return caught.value

    yield run
    end_all_workers()


def signal_self(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "facts"),
    [
        (signal.SIGKILL, ["SIGKILL", "main memory", "workers="]),
        (signal.SIGBUS, ["SIGBUS", "/dev/shm", "--shm-size", "workers=0"]),
        (signal.SIGSEGV, ["SIGSEGV", "workers=0"]),
    ],
)
def test_one_that_was_killed_is_named_with_its_file_and_the_reason(messages, failure, number, facts):
    messages.check(failure(signal_self(number)), "blobs_5", *facts)


@pytest.mark.slow
def test_one_that_was_stopped_is_named_within_its_limit_and_does_not_keep_python_from_its_end(messages, failure):
    messages.check(failure(signal_self(signal.SIGSTOP)), "blobs_5", "6 s", "was stopped")
    for worker in active_children():
        worker.join(30)
    assert not active_children()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "facts"), [(signal.SIGSTOP, ["6 s", "was stopped"]), (signal.SIGKILL, ["SIGKILL"])])
def test_one_that_is_lost_between_two_passes_is_named_too(messages, monkeypatch, number, facts):
    monkeypatch.setattr(loader_module, "WORKER_SECONDS", 6)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    batches = evaluation_loader(EvaluationSet(Blobs([1] * 8), 64), 1, 2)
    assert len(list(batches)) == 8
    lost = batches._iterator._workers[1].pid
    os.kill(lost, number)
    try:
        with pytest.raises((TrainingError, RuntimeError)) as caught:
            list(batches)
        error = caught.value if isinstance(caught.value, TrainingError) else explain_worker_failure(caught.value)
        messages.check(error, str(lost), *facts)
    finally:
        end_all_workers()


@pytest.mark.slow
def test_one_that_only_takes_long_is_named_too(messages, failure):
    messages.check(failure(lambda: time.sleep(60)), "blobs_5", "6 s", "slow")


def test_an_error_of_the_loop_itself_is_no_failure_of_a_worker():
    assert explain_worker_failure(RuntimeError("a fault")) is None
    assert explain_worker_failure(RuntimeError("DataLoader worker (pid 1) is killed")) is None


def test_the_order_of_batches_is_kept_and_none_is_left_unread():
    batches = evaluation_loader(EvaluationSet(Blobs([1, 2, 3]), 64), 2, 0)
    for _ in range(2):
        assert [batch.names for batch in batches] == [["blobs_0", "blobs_1"], ["blobs_2"]]
        assert batches.given == {}
        assert torch.equal(next(iter(batches)).image_index, torch.tensor([0, 1, 1]))
