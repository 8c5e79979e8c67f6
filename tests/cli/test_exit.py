"""How a script ends."""

import sys

import pytest

from sam_ft.cli.exit import exit_cleanly
from sam_ft.utils.errors import ConfigError


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
