"""How a script ends."""

import sys

import pytest

from sam_ft.cli.exit import exit_cleanly
from sam_ft.utils.errors import ConfigError


def test_a_mistake_is_written_in_one_call_so_that_two_processes_cannot_mix_their_lines(monkeypatch):
    calls = []
    monkeypatch.setattr(sys.stderr, "write", calls.append)
    with pytest.raises(SystemExit) as stop, exit_cleanly():
        raise ConfigError("lr=0; set it above 0")
    monkeypatch.undo()
    assert (stop.value.code, calls) == (2, ["error: lr=0; set it above 0\n"])
