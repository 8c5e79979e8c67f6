import contextlib
import os
import time

import pytest
from omegaconf import OmegaConf

from sam_ft.cli.run_config import read_run_config, write_run_config
from sam_ft.cli.runs import load_run
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.plain_yaml import MAX_BYTES, MAX_NODES, read_plain_yaml


def read(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_plain_yaml(path)


VALUES = {
    "rates": [1e-4, 1.5e3, 1e21, -2.5, float("inf")],
    "texts": ["1e-4", "true", "2024-01-01", "null", "", "a: b", "# no", "3_000", "12:30", "\n", "ü", "0x10", "~"],
    "numbers": [0, -7, 2**40],
    "rest": [True, None, [], {}, {"1": {"a": [[1]]}}],
}


def test_values_come_back_as_a_run_has_written_them(tmp_path):
    write_run_config(tmp_path / "config.yaml", VALUES)
    assert read_run_config(tmp_path / "config.yaml") == VALUES
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml")) == {"format_version": 2, **VALUES}


def test_numbers_and_texts_are_read_as_on_the_command_line(tmp_path):
    text = "a: 1e-4\nb: 2024-01-01\nc: 1.5e3\nd: '1e-4'\ne: yes\nf: 1_0"
    expected = {"a": 1e-4, "b": "2024-01-01", "c": 1500.0, "d": "1e-4", "e": True, "f": 10}
    assert read(tmp_path, text) == expected == OmegaConf.to_container(OmegaConf.create(text))


REFUSED = {
    "an interpolation": "a: ${oc.env:HOME}",
    "an interpolation in a key": "${oc.env:HOME}: 1",
    "an interpolation in a list": "a: [x, 'b ${b} c']",
    "an escaped interpolation": "a: '\\${b}'",
    "an alias": "a: &x [1]\nb: *x",
    "an anchor alone": "a: &x 1",
    "a merged alias": "a: &x {b: 1}\nc: {<<: *x}",
    "a tag": "a: !!binary aGk=",
    "a local tag": "a: !x {b: 1}",
    "a tag of python": "a: !!python/object/apply:os.getcwd []",
    "a standard tag": "a: !!str 1",
    "bytes": b"a: \xff",
    "many values": "a: [" + "1," * MAX_NODES + "1]",
    "a large text": "a: " + MAX_BYTES * "x",
    "deep lists": "a: " + 60 * "[" + 60 * "]",
}


@pytest.mark.parametrize("name", REFUSED)
def test_more_than_plain_values_is_refused(messages, tmp_path, name):
    with pytest.raises(ConfigError):
        read(tmp_path, REFUSED[name])
    with messages.raises(ConfigError, "config.yaml: "):
        load_run(tmp_path, ["metric"])


BOMBS = {
    "values": "a:\n" + "".join(f"  k{i}: [1, 2, 3, 4]\n" for i in range(20_000)),
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
    "interpolations": "a0: [x, x]\n" + "".join(f"a{i}: ['${{a{i - 1}}}', '${{a{i - 1}}}']\n" for i in range(1, 9)),
    "brackets": 100_000 * "[",
    "dashes": 90_000 * "- ",
    "lines": (MAX_BYTES - 1) * "\n",
    "lines of a text": "'" + (MAX_BYTES // 2 - 9) * "x\n" + "'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_two_seconds(tmp_path, name):
    started = time.process_time()
    with contextlib.suppress(ConfigError):
        read(tmp_path, BOMBS[name])
    assert time.process_time() - started < 2


def test_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="expected a file"):
        read_plain_yaml(tmp_path / "config.yaml")
