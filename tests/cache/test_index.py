import os
import subprocess
import sys

import pytest

from sam_ft.cache import index as index_module
from sam_ft.cache.index import SideIndex, view_id
from tests.support.cli import ROOT


def hexadecimal(number):
    return f"{number:040x}"


PAIRS = {hexadecimal(i): hexadecimal(100 + i) for i in range(5)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embeddings" / "index.txt"


@pytest.fixture
def index(path):
    index = SideIndex(path)
    index.add(PAIRS)
    return index


def test_lines_added_are_found_by_another_process(index, path):
    assert SideIndex(path).find(PAIRS) == PAIRS
    assert SideIndex(path).find([hexadecimal(3), hexadecimal(7)]) == {hexadecimal(3): hexadecimal(103)}


def test_the_last_line_of_an_id_counts(index):
    index.add({hexadecimal(2): hexadecimal(9)})
    assert index.find(PAIRS) == PAIRS | {hexadecimal(2): hexadecimal(9)}


def test_views_sides_and_files_have_ids_of_their_own():
    ids = {view_id(file, view, side) for file in ("a", "b") for view in range(8) for side in (256, 1024)}
    assert len(ids) == 32
    assert view_id("a", 0, 256) in ids


def test_any_damaged_line_is_skipped(index, path):
    data = path.read_bytes()
    for place in range(180, 280):  # the third line, and parts of its neighbors
        flipped, cut = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], data[:place] + b"\xff"
        for damaged, left in ((flipped, 3), (cut, 1)):
            path.write_bytes(damaged)
            found = index.find(PAIRS)
            assert found.items() <= PAIRS.items(), place
            assert len(found) >= left


def test_a_half_written_line_loses_itself_only(index, path):
    path.write_bytes(path.read_bytes()[:-5])
    index.add({hexadecimal(50): hexadecimal(150)})
    expected = {**dict(list(PAIRS.items())[:4]), hexadecimal(50): hexadecimal(150)}
    assert index.find([*PAIRS, hexadecimal(50)]) == expected


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, "é\n".encode(), b"a b\n" * 9, b" " * 100 + b"\n"])
def test_a_file_of_something_else_is_an_empty_index(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    index = SideIndex(path)
    assert index.find(PAIRS) == {}
    index.add(PAIRS)
    assert index.find(PAIRS) == PAIRS


def test_without_a_file_nothing_is_found(path):
    assert SideIndex(path).find(PAIRS) == {}


def test_an_index_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    index = SideIndex(tmp_path / "file" / "index.txt")
    index.add(PAIRS)
    assert index.find(PAIRS) == {}


def test_a_folder_in_its_place_costs_time_only(path):
    path.mkdir(parents=True)
    index = SideIndex(path)
    index.add(PAIRS)
    assert index.find(PAIRS) == {}


def test_a_large_file_loses_its_older_half(path, monkeypatch):
    monkeypatch.setattr(index_module, "LARGEST", 1000)  # 10 lines
    index = SideIndex(path)
    pairs = {hexadecimal(i): hexadecimal(100 + i) for i in range(40)}
    for one in pairs.items():
        index.add(dict([one]))
        assert path.stat().st_size <= 1000
        assert index.find([one[0]]) == dict([one])
    found = index.find(pairs)
    assert list(found) == list(pairs)[-len(found) :]
    assert len(found) >= 5


def test_an_oversized_file_is_ignored_and_made_smaller_by_the_next_run(index, path, monkeypatch):
    monkeypatch.setattr(index_module, "LARGEST", 400)
    assert index.find(PAIRS) == {}
    index.add({hexadecimal(8): hexadecimal(9)})
    assert path.stat().st_size <= 400
    assert index.find([hexadecimal(8)]) == {hexadecimal(8): hexadecimal(9)}


WRITER = """
import sys
from pathlib import Path
from sam_ft.cache.index import SideIndex
index, first = SideIndex(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 200):
    index.add({f"{number:040x}": f"{number + 1:040x}"})
"""


@pytest.mark.slow
def test_processes_that_write_at_once_lose_no_line(path):
    commands = [[sys.executable, "-c", WRITER, str(path), str(first)] for first in (0, 1000, 2000)]
    writers = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0, 0]
    numbers = [first + i for first in (0, 1000, 2000) for i in range(200)]
    expected = {hexadecimal(number): hexadecimal(number + 1) for number in numbers}
    assert SideIndex(path).find(expected) == expected


def as_link(path, other):
    path.symlink_to(other)


def as_pipe(path, _):
    os.mkfifo(path)  # opening it would wait for ever


@pytest.mark.parametrize("make", [as_link, as_pipe])
def test_what_is_no_file_is_neither_read_nor_written(index, path, tmp_path, make):
    other = path.rename(tmp_path / "other")
    before = other.read_bytes()
    make(path, other)
    index.add({hexadecimal(7): hexadecimal(8)})
    assert index.find(PAIRS) == {}
    assert other.read_bytes() == before
