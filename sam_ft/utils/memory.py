"""The memory that this process used at most, and that is free on its GPU."""

import sys
from pathlib import Path

import torch


def reset_peak() -> None:
    """Restarts the measurement of `peak_gb` on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float:
    """Peak memory in GB: of tensors on this process's GPU, or without one the resident memory of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, whose peak includes that of the parent process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    if sys.platform == "win32":  # which has no module `resource`
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def free_gpu_bytes(device: torch.device) -> int:
    """Bytes that new tensors can take on a GPU; 0 on another device."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    # torch keeps the memory of freed tensors for new ones.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
