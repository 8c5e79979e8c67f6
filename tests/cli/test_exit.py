"""How a script ends."""

import os
import signal
import sys
import time

import pytest

from sam_ft.cli.exit import SAME_SECONDS, exit_cleanly
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.preemption import preemption


def test_a_mistake_is_written_in_one_call_so_that_two_processes_cannot_mix_their_lines(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    calls = []
    monkeypatch.setattr(sys.stderr, "write", calls.append)
    with pytest.raises(SystemExit) as stop, exit_cleanly():
        raise ConfigError("lr=0; set it above 0")
    monkeypatch.undo()
    assert (stop.value.code, calls) == (2, ["error: lr=0; set it above 0\n"])


def test_a_bug_keeps_its_traceback(cli, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("a fault")

    monkeypatch.setattr("torch.manual_seed", fail)
    with pytest.raises(ValueError, match="a fault"):
        cli("train.py", f"run_dir={tmp_path}")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no such signals")
@pytest.mark.parametrize(("seconds", "killed"), [(0.0, False), (SAME_SECONDS + 1, True)])
def test_a_signal_that_is_sent_twice_is_one_and_a_later_one_kills(monkeypatch, seconds, killed):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    kills = []
    now = time.monotonic()
    with exit_cleanly():
        monkeypatch.setattr(preemption, "waits", True)
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
        again = signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(os, "kill", lambda *call: kills.append(call))
        again(signal.SIGTERM, None)
    monkeypatch.undo()
    preemption.forget()
    assert kills == ([(os.getpid(), signal.SIGTERM)] if killed else [])
