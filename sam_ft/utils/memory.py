"""Memory: how much of it was used, and a setting that makes a CPU up to twice as fast at this work."""

import ctypes
import platform
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells malloc to keep large blocks for the next tensor of that size instead of giving them back to the kernel.

    By default every tensor above 32 MB is mapped anew and its pages zeroed again, at each step. Does nothing but on
    Linux with glibc. The process holds on to its peak memory, which it would ask for again a moment later anyway.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def forget_peak() -> None:
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
