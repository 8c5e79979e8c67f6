"""Two processes that count gloo's threads in their group and after it; run under torchrun.

With the argument "twice" they join a second group, for which the main process is late; with "exit" they exit with an
error inside the group, and would print a line if the interpreter then shut down.
"""

import atexit
import os
import sys
import time
from pathlib import Path

from sam_ft.utils import distributed


def gloo_threads() -> int:
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    if "exit" in sys.argv:
        atexit.register(print, "shut down")
        with distributed.process_group():
            print("leaving\n", end="", flush=True)  # in one write: both processes share the pipe
            sys.exit(3)
    for number in range(len(sys.argv)):
        if number and os.environ["RANK"] == "0":
            time.sleep(2)
        with distributed.process_group():
            rank = distributed.rank()
            distributed.all_gather([rank])
            inside = gloo_threads()
        print(f"{rank}:{inside > 0},{gloo_threads()}\n", end="", flush=True)
