import torch

from sam_ft.utils.memory import free_gpu_bytes, peak_gb


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
