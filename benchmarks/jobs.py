"""Whole runs of train.py and evaluate.py in processes of their own: from the command line to what they leave."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.harness import ROOT, say

# What every run here has in common: nothing leaves the machine, no epoch is left out.
TRAIN = ("data=folder", "logger=none", "pictures=0", "patience=null", "overwrite=true")


@dataclass
class Job:
    """What came out of a command.

    seconds: wall time from its start to its exit
    rows: of its metrics.jsonl · parts, peak: only if it was timed, see `timed`; seconds by name, and bytes
    """

    seconds: float
    rows: list[dict] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    peak: int = 0

    def values(self, name: str) -> list[float]:
        """One number an epoch, from the rows that have it."""
        return [row[name] for row in self.rows if name in row]


class Failed(RuntimeError):
    """The command ended with another exit code than 0; the message holds the end of what it said."""


def run(command: Sequence[str], home: Path, environment: Mapping[str, str] | None = None, limit: int = 0) -> float:
    """Runs `python COMMAND` from the root of the repository; → seconds.

    home: its $SAM_FT_HOME · limit: bytes of memory that it may ask for, 0 for as many as it likes
    """
    environment = {**os.environ, "SAM_FT_HOME": str(home), **(environment or {})}

    def in_child() -> None:
        if limit:  # it fails by itself before the kernel looks for a process to end
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        preexec_fn=in_child,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command)}\nended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return time.perf_counter() - started


def train(overrides: Sequence[str], directory: Path, home: Path, launcher: Sequence[str] = (), **options) -> Job:
    """A run of train.py into `directory`; launcher: what stands between python and train.py."""
    seconds = run([*launcher, "train.py", *TRAIN, f"run_dir={directory}", *overrides], home, **options)
    return Job(seconds, metrics(directory))


def timed(script: str, overrides: Sequence[str], directory: Path, home: Path, **options) -> Job:
    """A run of train.py or evaluate.py with clocks round its parts, see `timed_script`."""
    result = directory.with_name(f"{directory.name}-timed.json")
    own = (
        [*TRAIN, f"run_dir={directory}"] if script == "train" else ["data=folder", f"output={directory}", "pictures=0"]
    )
    arguments = ["-m", "benchmarks.timed_script", str(result), repr(time.time()), script]
    seconds = run([*arguments, *own, *overrides], home, **options)
    found = json.loads(result.read_text())
    return Job(seconds, metrics(directory), found["parts"], found["peak"])


def metrics(directory: Path) -> list[dict]:
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def warm_up(home: Path) -> None:
    """Reads from the disk what a run imports, so that the first one measured has no disadvantage."""
    run(["train.py", "logger=none", "--cfg", "job"], home)


def weights_of(model_type: str, folder: Path) -> Path:
    """A file for both sides: random weights of the official package, or LiteMedSAM's published ones."""
    from tests.support import reference  # slow: imports all three packages

    if model_type == "lite_medsam":
        return reference.LITE_MEDSAM_WEIGHTS
    path = folder / f"{model_type}.pth"
    if not path.exists():
        say(f"making weights of {model_type}")
        torch.save(reference.official_sam(model_type).state_dict(), path)
    return path
