import torch

from sam_ft.utils.memory import peak_gb


def test_the_peak_holds_at_least_what_is_held_now_and_never_falls():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = int((peak_gb() + 0.1) * 1e9)  # more than the process ever had
    held = torch.ones(size, dtype=torch.uint8, device=device)
    assert peak_gb() >= held.nbytes / 1e9
    before = peak_gb()
    del held
    assert peak_gb() >= before - 0.01  # Linux counts pages per core and thread, and adds them up now and then
