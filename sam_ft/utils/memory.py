"""The peak of the memory that this process used."""

import sys
from pathlib import Path

import torch


def reset_peak() -> None:
    """Lets `peak_gb` begin anew on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float:
    """The most memory that tensors took on this process's GPU; without one, that the process had resident so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, whose number begins with that of the process which started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    if sys.platform == "win32":  # which has no module `resource`
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
