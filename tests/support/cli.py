"""Runs the scripts as a user does, in this process or in one of their own."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
# the real LiteMedSAM weights at a sixteenth of their pixels: a step takes milliseconds
SMALL = ["model=lite_medsam", "model.image_size=64", "logger=none", "workers=0", "pictures=0"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def call(script: str, *overrides: str, capsys, monkeypatch) -> Done:
    """`python script overrides` in this process."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [script, *overrides])
    code = 0
    capsys.readouterr()
    try:
        if script.endswith(".py"):
            runpy.run_path(str(ROOT / script), run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    return Done(code, *capsys.readouterr())


def call_once(script: str, *overrides: str) -> Done:
    """The same for a fixture of a module or a session, of a script that ends well."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", [script, *overrides])
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return Done(0, out.getvalue(), "")


def start(*command: str, timeout: float = 300, **environment: str) -> Done:
    """A command in a process of its own, from the repository's root."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def torchrun(*arguments: str, processes: int = 2, timeout: float = 300, **environment: str) -> Done:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return start(*launcher, *arguments, timeout=timeout, PYTHONPATH=str(ROOT), **environment)
