"""A run of two ranks under torchrun, to which tests do something once both are in their steps.

torchrun ... -m tests.support.left_alone KIND FOLDER OVERRIDES: rank 1 acts by itself in its third step, as KIND says.
It writes the process ids of both ranks into FOLDER.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

import sam_ft.training.step as step_module
from sam_ft.utils import heartbeat
from sam_ft.utils.errors import DataError

heartbeat.BEAT = 1.0  # a second in place of five: nine seconds of silence
STEPS = 3

rank = int(os.environ["RANK"])


def fail():
    raise DataError("image 7: is damaged")


def bug():
    raise ZeroDivisionError("a fault of the program")


def wait():
    """The test acts from outside."""


ACTS = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "mistake": fail,
    "bug": bug,
    "wait": wait,
    "pause": lambda: time.sleep(2 * heartbeat.SILENT_BEATS * heartbeat.BEAT),
}


def acting(step, act, folder):
    count = 0

    def steps(*arguments):
        nonlocal count
        count += 1
        if count == STEPS:
            (folder / f"{rank}.pid").write_text(str(os.getpid()))
            if rank == 1:
                act()
        return step(*arguments)

    return steps


if __name__ == "__main__":
    kind, folder = sys.argv.pop(1), Path(sys.argv.pop(1))
    step_module.train_step = acting(step_module.train_step, ACTS[kind], folder)
    runpy.run_path("train.py", run_name="__main__")
