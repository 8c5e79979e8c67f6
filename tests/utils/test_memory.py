import pytest
import torch

from sam_ft.utils.errors import TrainingError
from sam_ft.utils.memory import (
    explain_any_out_of_memory,
    explain_out_of_memory,
    free_gpu_bytes,
    is_out_of_memory,
    peak_gb,
)
from tests.support.batches import sample, training


def test_the_peak_holds_at_least_what_is_held_now_and_never_falls():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = int((peak_gb() + 0.1) * 1e9)  # more than the process ever had
    held = torch.ones(size, dtype=torch.uint8, device=device)
    assert peak_gb() >= held.nbytes / 1e9
    before = peak_gb()
    del held
    assert peak_gb() >= before - 0.01  # Linux counts pages per core and thread, and adds them up now and then


def test_free_memory_counts_on_a_gpu_only():
    assert free_gpu_bytes(torch.device("cpu")) == 0
    if torch.cuda.is_available():
        device = torch.device("cuda", 0)
        free = free_gpu_bytes(device)
        held = torch.ones(2**30, dtype=torch.uint8, device=device)
        assert free - free_gpu_bytes(device) >= 2**30
        del held
        assert free_gpu_bytes(device) >= free - 2**20  # torch keeps it for the next tensor


CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 23 GiB, 1 GiB free. If reserved"
)
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: 8 bytes")


@pytest.mark.parametrize("error", [CUDA, CPU, MemoryError(), MemoryError("Unable to allocate 7 TiB")])
def test_the_message_has_the_batch_its_sizes_and_the_settings(messages, error):
    batches = [training(sample("a", 60, 100, 3), sample("b", 100, 50, 2)), training(sample("c", objects=1))]
    facts = ("3 images", "2 at once", "a (38 x 64), b (64 x 32)", "6 objects", "at most 4 at once", "train_chunk=2")
    with messages.raises(TrainingError, *facts), explain_out_of_memory(batches, 4, "train_chunk=2"):
        raise error
    messages.check(explain_any_out_of_memory(error))


def test_many_images_are_not_all_named():
    batches = [training(*(sample(f"i{n}") for n in range(100)))]
    with pytest.raises(TrainingError, match=r"i7 .* and 92 more"), explain_out_of_memory(batches, 4, ""):
        raise MemoryError


@pytest.mark.parametrize("error", [RuntimeError("shape '[4]' is invalid"), ValueError("out of memory"), KeyError()])
def test_other_errors_stay(error):
    with pytest.raises(type(error)), explain_out_of_memory([], 4, ""):
        raise error
    assert not is_out_of_memory(error)


def test_memory_that_has_run_out_indeed_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
