"""Two sides, each in a process of its own, asked in turn; and how their answers become Markdown."""

import gc
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch

from sam_ft.utils.cpu_kernels import keep_freed_memory

ROOT = Path(__file__).parent.parent
# All but `adapt --gpu` is about CPUs; torch looks when it is first asked for a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


class Answer(NamedTuple):
    """seconds: taken by the call alone · peak: bytes of resident memory at most since it began"""

    seconds: float
    peak: int
    value: Any


class Side:
    """An object living in a process of its own, whose methods are called from here.

    build: makes the object, in that process · ours: the process is prepared as the product prepares its own on a CPU
    loaded: bytes of resident memory once the object was made
    """

    def __init__(self, build: Callable, *arguments: Any, ours: bool) -> None:
        self._pipe, pipe = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve,
            args=(pipe, build, arguments, ours),  # no daemon: it may have loaders of its own
        )
        self._process.start()
        pipe.close()  # so that a death on the other side ends the waiting here
        self.loaded: int = self._receive()

    def ask(self, method: str, *arguments: Any) -> Answer:
        self._pipe.send((method, arguments))
        return self._receive()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"a worker ended with exit code {self._process.exitcode}; see above") from None


def _serve(pipe: Connection, build: Callable, arguments: tuple, ours: bool) -> None:
    multiprocessing.set_start_method(None, force=True)  # loaders begin as they do in train.py, not as this process did
    if ours:
        keep_freed_memory()  # as distributed.process_group() does in train.py
    served = build(*arguments)
    gc.collect()
    pipe.send(resident_bytes("VmRSS"))
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:  # the other side is done
            return
        forget_peak()
        started = perf_counter()
        value = getattr(served, method)(*arguments)
        pipe.send(Answer(perf_counter() - started, resident_bytes("VmHWM"), value))


def resident_bytes(key: str) -> int:
    """Of this process: now ("VmRSS") or at most ("VmHWM"). Not ru_maxrss, which begins with that of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[key].split()[0]) * 1024


def forget_peak() -> None:
    """Lets VmHWM begin anew from what is resident now."""
    with suppress(OSError):  # elsewhere, and where it is not allowed, peaks are those since the beginning
        Path("/proc/self/clear_refs").write_text("5")


def in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 1) -> dict[str, list[Any]]:
    """Calls all of them once a round, every other round backwards; rounds of warming up are left out."""
    results: dict[str, list[Any]] = {name: [] for name in calls}
    for number in range(-warmup, repeats):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            result = calls[name]()
            if number >= 0:
                results[name].append(result)
    return results


def seconds(answers: Sequence[Answer]) -> list[float]:
    return [answer.seconds for answer in answers]


def peak(answers: Sequence[Answer]) -> int:
    return max(answer.peak for answer in answers)


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Theirs over ours: of the medians, and the lowest and the highest of the rounds."""
    of_rounds = [a / b for a, b in zip(theirs, ours, strict=True)]
    spread = f" ({min(of_rounds):.2f} to {max(of_rounds):.2f})" if len(of_rounds) > 1 else " (one run)"
    return f"{median(theirs) / median(ours):.2f}{spread}"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f}"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown, with the keys of the first row above."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(row[key]) for key in rows[0]] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(gpu: str | None = None, precision: str = "float32") -> str:
    """One line that says where and with what the numbers were taken, without the machine's name."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [li.split(":", 1)[1] for li in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in li]
        cpu = " ".join(models[0].split()) if models else cpu
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"Machine: {cpu}, {cores} cores, {memory:.0f} GB of memory, {gpu or 'no GPU used'}; "
        f"torch {torch.__version__} with {torch.get_num_threads()} threads, {precision}; {_commit()}, {date.today()}."
    )


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return f"commit {git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"


def say(text: str) -> None:
    """Progress: the screen, not the table."""
    print(text, file=sys.stderr, flush=True)
