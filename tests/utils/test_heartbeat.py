"""What ranks tell each other beside the process group; tests/end_to_end/test_lost_ranks.py stops and kills them."""

import os

import pytest
import torch.distributed as dist

from sam_ft.utils import heartbeat
from sam_ft.utils.heartbeat import Heartbeat


@pytest.fixture
def ranks(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    store = dist.HashStore()
    both = [Heartbeat(store, rank, 2) for rank in range(2)]
    yield both
    for one in both:
        one.stop()
        one._thread.join(10)


def test_a_rank_that_ends_early_tells_its_code(ranks):
    assert ranks[0].end_of_others() is None
    assert ranks[0].end_of_others(wait=0.2) is None
    ranks[1].announce_end(3)
    assert ranks[0].end_of_others() == 3
    ranks[0].announce_end(143)  # by torchrun, because of the first
    assert ranks[1].end_of_others() is None  # it was itself
    assert ranks[0].end_of_others() == 3


def test_the_same_message_is_first_on_one_rank_only(ranks):
    assert [rank.is_first("a.png: is damaged") for rank in ranks] == [True, False]
    assert [rank.is_first("b.png: is damaged") for rank in reversed(ranks)] == [True, False]


def test_a_rank_that_has_left_is_not_missed(ranks):
    ranks[1].stop()
    ranks[0]._thread.join(0.05 * heartbeat.SILENT_BEATS * 3)
    assert ranks[0]._thread.is_alive()


def test_a_store_that_has_gone_is_no_error(ranks, monkeypatch):
    class Gone:
        def __getattr__(self, name):
            def fail(*_):
                raise dist.DistStoreError("gone")

            return fail

    ranks[0]._store = Gone()
    ranks[0].announce_end(3)
    assert ranks[0].end_of_others() is None
    assert ranks[0].is_first("a")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_a_process_that_computes_is_told_from_one_that_does_not():
    here = f"host {os.getpid()} {heartbeat._namespace()}"
    before = heartbeat._processor_seconds(here)
    while heartbeat._processor_seconds(here) <= before:  # it ends, since this computes
        sum(range(100_000))
    assert heartbeat._processor_seconds(f"host {os.getpid()} other") == 0
    assert heartbeat._processor_seconds("host 1 ") == 0
    assert heartbeat._processor_seconds(f"host {2**22 + 1} {heartbeat._namespace()}") == 0
