"""Runs train.py or evaluate.py in this process with clocks round the parts of its work: where does the time go?

python -m benchmarks.timed_script RESULT STARTED train|evaluate OVERRIDES...

STARTED is the time when the command was given, in seconds since 1970. RESULT becomes a JSON file: seconds by part, and
the most memory that was resident.
"""

import functools
import importlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import ROOT, resident_bytes

# Part, and where the function is looked up when it is called; a script may lack its own. Whoever moves one of them has
# to change it here.
PARTS = (
    ("encode", "sam_ft.models.sam", "Sam.prefix"),
    ("encode", "sam_ft.models.sam", "Sam.suffix"),
    ("embeddings on disk", "sam_ft.cache", "EmbeddingCache.fill"),
    ("validation", "SCRIPT", "evaluate"),
    ("decode", "sam_ft.models.sam", "Sam.decode"),
    ("loss", "sam_ft.losses", "Combined.__call__"),
    ("backward", "torch", "Tensor.backward"),
    ("optimizer", "torch.optim", "AdamW.step"),
    ("optimizer", "sam_ft.training.step", "clip_grad_norm_"),
    ("data", "torch.utils.data", "DataLoader.__iter__"),
    ("data", "torch.utils.data.dataloader", "_BaseDataLoaderIter.__next__"),
    ("log and checkpoints", "sam_ft.training.loggers", "RunLog.log"),
    ("log and checkpoints", "SCRIPT", "save_best"),
    ("log and checkpoints", "sam_ft.training.state", "TrainState.save"),
    ("log and checkpoints", "sam_ft.report.samples", "SamplePictures.draw"),
    ("log and checkpoints", "sam_ft.report.samples", "SamplePictures.draw_zero_shot"),
)
# All that happens within these counts as theirs, but for the encoding.
WHOLES = ("embeddings on disk", "validation")


class Clock:
    """Seconds by part; what a part spends in another one counts for the other."""

    def __init__(self, started: float) -> None:
        self.started = started  # on the clock of time.time
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[list] = []  # [part, seconds of the parts within]

    def timed(self, part: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapper(*arguments, **keywords):
            if part in WHOLES and "start-up" not in self.seconds:  # the first of what comes with the data
                self.seconds["start-up"] = time.time() - self.started - sum(self.seconds.values())
            whole = next((name for name, _ in self._open if name in WHOLES), part)
            frame = [part if part == "encode" else whole, 0.0]
            self._open.append(frame)
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                seconds = time.perf_counter() - started
                self._open.pop()
                self.seconds[frame[0]] += seconds - frame[1]
                if self._open:
                    self._open[-1][1] += seconds

        return wrapper


def main() -> None:
    result, started, name, *overrides = sys.argv[1:]
    clock = Clock(float(started))
    script = importlib.import_module(name)
    for part, module, path in PARTS:
        *owners, attribute = path.split(".")
        owner = script if module == "SCRIPT" else importlib.import_module(module)
        for step in owners:
            owner = getattr(owner, step)
        if module != "SCRIPT" or hasattr(owner, attribute):
            setattr(owner, attribute, clock.timed(part, getattr(owner, attribute)))
    sys.argv = [f"{name}.py", "--config-path", str(ROOT / "conf"), *overrides]
    with script.exit_cleanly(), script.distributed.process_group():
        script.main()
    Path(result).write_text(json.dumps({"parts": clock.seconds, "peak": resident_bytes("VmHWM")}))


if __name__ == "__main__":
    main()
