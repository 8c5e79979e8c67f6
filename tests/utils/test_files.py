import json
import os
from math import inf, nan
from pathlib import Path

import pytest

from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.files import as_json, atomic_path, read_text, refuse_links, refuse_links_within


def test_nan_and_infinity_become_null_at_any_depth():
    values = {"a": nan, "b": {"c": [1.5, -inf, "nan"]}, "d": (inf, None, 2), "e": True}
    expected = {"a": None, "b": {"c": [1.5, None, "nan"]}, "d": [None, None, 2], "e": True}
    assert json.loads(as_json(values)) == expected
    assert "NaN" not in as_json(values, indent=2)


def test_the_file_before_stays_under_the_name_to_keep_it_by(tmp_path):
    path, older = tmp_path / "a", tmp_path / "a-1"
    for text in ("one", "two", "three"):
        with atomic_path(path, keep=older) as temporary:
            temporary.write_text(text)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"a": "three", "a-1": "two"}
    with pytest.raises(ZeroDivisionError), atomic_path(path, keep=older):
        raise ZeroDivisionError
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"a": "three", "a-1": "two"}


def test_links_below_a_folder_are_refused_and_those_to_it_are_not(tmp_path, monkeypatch):
    (tmp_path / "disk/run/sub").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    folder = tmp_path / "outputs/run"
    refuse_links(folder, folder / "sub/a/b", folder, tmp_path / "outputs/other")
    (folder / "sub/link").symlink_to(tmp_path / "elsewhere")
    (folder / "gone").symlink_to("nowhere")
    for path in (folder / "sub/link", folder / "sub/link/deep/er", folder / "gone"):
        with pytest.raises(ConfigError, match="is a link to"):
            refuse_links(folder, path)
    refuse_links(folder, folder / "sub")
    monkeypatch.chdir(tmp_path)
    for output in (folder / "sub", Path("outputs/run/sub")):
        with pytest.raises(ConfigError, match="sub/link"):
            refuse_links_within(folder, output)
    refuse_links_within(folder, tmp_path / "elsewhere")  # chosen by the user


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_in_the_place_of_a_text_file_is_refused_and_not_opened(messages, tmp_path):
    path = tmp_path / "train.txt"
    os.mkfifo(path)
    with messages.raises(DataError, path):
        read_text(path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "gone.txt")
