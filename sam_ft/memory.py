"""One setting of the C library that makes a CPU up to twice as fast at this work."""

import ctypes
import platform

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
