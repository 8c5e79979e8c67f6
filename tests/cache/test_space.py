import os
import shutil
import time

import pytest

from sam_ft.cache.space import Space

ENTRY = 1000  # bytes of a file


@pytest.fixture
def root(tmp_path):
    return tmp_path / "embeddings"


def own(keys, folder="enc"):
    return [f"{folder}/{key}.safetensors" for key in keys]


def space(root, entries=1000.0):
    """A run's space with room for so many files."""
    return Space(root, max_gb=entries * ENTRY / 1e9)


def write(root, names):
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x" * ENTRY)


def fill(run, keys, folder="enc"):
    """Plans these files and writes the missing ones. → how many there were"""
    missing = run.plan(own(keys, folder), ENTRY).missing
    write(run.root, missing)
    return len(missing)


def filled_earlier(root, keys):
    """Files of a run that has ended, each used ten seconds after the one before, all of them an hour ago."""
    fill(space(root), keys)
    for number, name in enumerate(own(keys)):
        os.utime(root / name, (time.time() - 3600 + 10 * number,) * 2)


def present(root):
    return sorted(path.stem for path in root.glob("*/*.safetensors"))


def test_files_that_are_missing_are_planned_and_the_others_kept(root):
    filled_earlier(root, "a")
    kept, missing = space(root).plan(own("abc"), ENTRY)
    assert kept == set(own("abc"))
    assert sorted(missing) == own("bc")


def test_the_least_recently_used_are_deleted_first(root):
    filled_earlier(root, "bca")
    assert fill(space(root, 4.5), "xy", "other") == 2
    assert present(root) == ["a", "c", "x", "y"]


def test_using_a_file_makes_it_recent(root):
    filled_earlier(root, "ab")
    assert fill(space(root), "a") == 0
    assert fill(space(root, 2.5), "x", "other") == 1
    assert present(root) == ["a", "x"]


def test_nothing_is_deleted_where_nothing_is_missing(root):
    filled_earlier(root, "abc")
    assert fill(space(root, 1.5), "a") == 0
    assert present(root) == ["a", "b", "c"]


def test_the_limit_holds_and_the_files_without_room_are_counted(messages, root, caplog):
    assert fill(space(root, 2.5), "abc") == 2
    messages.logged(caplog, "2 of 3 new embeddings")
    assert len(present(root)) == 2


def test_an_evaluation_deletes_nothing_and_writes_what_fits(root):
    filled_earlier(root, "abc")
    run = space(root, 4.5)
    run.may_delete = False
    assert fill(run, "xy", "other") == 1
    assert present(root)[:3] == ["a", "b", "c"]


def test_a_run_does_not_push_out_its_own_files(root):
    filled_earlier(root, "ab")
    run = space(root, 3.5)
    assert fill(run, "abv") == 1  # such as the images of validation
    assert fill(run, "xyz", "other") == 0  # and then those of training
    assert present(root) == ["a", "b", "v"]


def test_of_two_runs_at_once_the_later_one_has_the_room(root, caplog):
    earlier, later = space(root, 2.5), space(root, 2.5)
    fill(earlier, "ab")
    for name in own("ab"):
        os.utime(root / name, (time.time() - 1,) * 2)
    earlier._started -= 1
    assert fill(later, "xy", "other") == 2
    assert present(root) == ["x", "y"]
    kept, missing = earlier.plan(own("ab"), ENTRY)
    assert (kept, missing) == (set(), [])
    assert present(root) == ["x", "y"]
    assert "0 of 2 new embeddings" in caplog.text


def test_a_folder_that_was_deleted_is_made_again(root):
    run = space(root)
    fill(run, "a")
    shutil.rmtree(root)
    assert sorted(run.plan(own("ab"), ENTRY).missing) == own("ab")


def test_half_written_files_of_dead_runs_are_removed(root):
    fill(space(root), "a")
    gone = [f"enc/b.safetensors.tmp-{2**22 + 1}-0123abcd", "enc/.tmpold123", f"index.txt.tmp-{2**22 + 1}-0123abcd"]
    kept = [f"enc/c.safetensors.tmp-{os.getppid()}-0123abcd", "enc/.tmpnew123"]  # of others, perhaps
    for name in [*gone, *kept]:
        (root / name).write_bytes(b"half")
    os.utime(root / gone[1], (0, 0))
    fill(space(root), "d")
    assert not any((root / name).exists() for name in gone)
    assert all((root / name).exists() for name in kept)


def test_other_files_beside_the_embeddings_neither_count_nor_disappear(root):
    filled_earlier(root, "ab")
    for name in ("index.txt", "enc/notes.txt"):
        (root / name).write_bytes(b"x" * 100 * ENTRY)
        os.utime(root / name, (0, 0))
    assert fill(space(root, 3), "x") == 1
    assert present(root) == ["a", "b", "x"]
    assert (root / "index.txt").exists()
    assert (root / "enc/notes.txt").exists()


def test_files_behind_a_link_do_not_count_and_make_no_room(root, tmp_path):
    filled_earlier(root, "ab")
    (root / "enc").rename(tmp_path / "elsewhere")
    (root / "enc").symlink_to(tmp_path / "elsewhere")
    assert len(space(root, 1).plan(own("x", "other"), ENTRY).missing) == 1
    assert sorted(path.stem for path in (tmp_path / "elsewhere").iterdir()) == ["a", "b"]
