import os
import subprocess
import sys

import pytest

from sam_ft.utils.files import atomic_path
from sam_ft.utils.leftovers import held, remove_leftovers, temporary_beside

OTHER = """
import sys
from pathlib import Path
from sam_ft.utils.files import atomic_path
with atomic_path(Path(sys.argv[1])) as part:
    part.write_text("half")
    print(part, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that has written half of tmp_path/file."""
    command = [sys.executable, "-c", OTHER, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.slow
def test_the_file_of_a_live_process_stays_and_is_finished_by_it(tmp_path, other):
    (before,) = names(tmp_path)
    remove_leftovers(tmp_path, alone=True)
    assert names(tmp_path) == [before]
    other.communicate("")
    assert names(tmp_path) == ["file"]
    assert other.returncode == 0


@pytest.mark.slow
def test_the_file_of_a_killed_process_is_removed(tmp_path, other):
    other.kill()
    other.wait()
    assert len(names(tmp_path)) == 1
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.slow
def test_the_file_of_a_live_process_in_another_container_stays(tmp_path, other):
    # whose number is that of no process here, or of this one
    (part,) = tmp_path.iterdir()
    for number in (2**22 + 1, os.getpid()):
        part = part.rename(tmp_path / f"file.tmp-{number}-0123abcd")
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [part.name]
    other.kill()
    other.wait()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_was_half_drawn_is_removed_with_its_content(tmp_path):
    gone = tmp_path / f"demo.tmp-{2**22 + 1}-0123abcd"
    (gone / "images").mkdir(parents=True)
    mine = temporary_beside(tmp_path / "demo")
    mine.mkdir()
    with held(mine):
        remove_leftovers(tmp_path)
        assert names(tmp_path) == [mine.name]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_other_files_stay_also_with_similar_names(tmp_path):
    kept = ["a.tmp", "b.tmp-1", f"c.tmp-{2**22 + 1}-0123abcd.png", "d.tmp-x-0123abcd", f"e.tmp-{2**22 + 1}-0123ABCD"]
    for name in [*kept, ".tmpAb12cD", f"f.tmp-{10**30}-0123abcd"]:
        (tmp_path / name).write_text("")
    (tmp_path / f"link.tmp-{2**22 + 1}-0123abcd").symlink_to(tmp_path / "a.tmp")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*kept, ".tmpAb12cD", f"link.tmp-{2**22 + 1}-0123abcd"])
    remove_leftovers(tmp_path, alone=True)  # safetensors' own
    assert ".tmpAb12cD" not in names(tmp_path)


def test_folders_below_only_where_that_is_wanted(tmp_path):
    left = tmp_path / "a" / "b" / f"file.tmp-{2**22 + 1}-0123abcd"
    left.parent.mkdir(parents=True)
    left.write_text("")
    remove_leftovers(tmp_path, tmp_path / "missing")
    assert left.exists()
    remove_leftovers(tmp_path, tmp_path / "missing", deep=True)
    assert not left.exists()


def test_a_writer_that_renames_a_file_of_its_own_is_protected_too(tmp_path):
    with atomic_path(tmp_path / "file") as part:
        (tmp_path / "own").write_text("content")
        (tmp_path / "own").rename(part)
    assert (tmp_path / "file").read_text() == "content"
    assert names(tmp_path) == ["file"]
