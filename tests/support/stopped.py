"""train.py, which gets a signal as its n-th step begins: python -m tests.support.stopped STEP SIGNAL RANK OVERRIDES

RANK: of the process that gets it, or "all"
"""

import os
import runpy
import signal
import sys

import sam_ft.training.step

step, number, rank = int(sys.argv.pop(1)), getattr(signal, sys.argv.pop(1)), sys.argv.pop(1)
train_step, taken = sam_ft.training.step.train_step, 0


def interrupted(*arguments):
    global taken
    taken += 1
    if taken == step and rank in ("all", os.environ.get("RANK", "0")):
        os.kill(os.getpid(), number)
    return train_step(*arguments)


if __name__ == "__main__":
    sam_ft.training.step.train_step = interrupted
    runpy.run_path("train.py", run_name="__main__")
