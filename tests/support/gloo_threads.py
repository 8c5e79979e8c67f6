"""Two processes that count gloo's threads in their group and after it; run under torchrun.

With an argument they join a second group, for which the main process is late.
"""

import os
import sys
import time
from pathlib import Path

from sam_ft.utils import distributed


def gloo_threads() -> int:
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    for number in range(len(sys.argv)):
        if number and os.environ["RANK"] == "0":
            time.sleep(2)
        with distributed.process_group():
            rank = distributed.rank()
            distributed.all_gather([rank])
            inside = gloo_threads()
        print(f"{rank}:{inside > 0},{gloo_threads()}\n", end="", flush=True)
