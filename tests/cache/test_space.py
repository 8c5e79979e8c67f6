import os
import pickle
import resource
import shutil
import time

import pytest

from sam_ft.cache.space import Lease, Space

ENTRY = 1000  # bytes of a file


@pytest.fixture
def root(tmp_path):
    return tmp_path / "embeddings"


def own(keys, folder="enc"):
    return [f"{folder}/{key}.safetensors" for key in keys]


def opened(root, keys="", folder="enc", entries=1000.0):
    space = Space(root, max_gb=entries * ENTRY / 1e9)
    space.plan(own(keys, folder), ENTRY)
    return space


def filled(root, keys, **options):
    space = opened(root, keys, **options)
    for name in own(keys):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x" * ENTRY)
    return space


def age(root, key, seconds):
    os.utime(root / own(key)[0], (time.time() - seconds,) * 2)


def present(root):
    return sorted(path.stem for path in root.glob("*/*.safetensors"))


def test_files_that_are_missing_are_planned_and_the_others_kept(root):
    filled(root, "a")
    kept, missing = Space(root, 50).plan(own("abc"), ENTRY)
    assert kept == set(own("abc"))
    assert sorted(missing) == own("bc")


def test_the_least_recently_used_are_deleted_first(root):
    old = filled(root, "abc")
    for key, seconds in (("a", 10), ("b", 30), ("c", 20)):
        age(root, key, seconds)
    del old
    assert set(Space(root, 4.5 * ENTRY / 1e9).plan(own("xy", "other"), ENTRY).missing) == set(own("xy", "other"))
    assert present(root) == ["a", "c"]


def test_using_an_entry_makes_it_recent(root):
    filled(root, "ab")
    for key in "ab":
        age(root, key, 1000)
    opened(root, "a")
    stamps = [(root / name).stat().st_mtime for name in own("ab")]
    assert stamps[0] > stamps[1] + 900


def test_a_living_run_keeps_its_files(messages, root, caplog):
    living = filled(root, "ab")
    kept, missing = Space(root, 3.5 * ENTRY / 1e9).plan(own("xyz", "other"), ENTRY)
    assert len(missing) == 1
    assert kept == set(missing)
    messages.logged(caplog, "1 of 3 new embeddings")
    assert present(root) == ["a", "b"]
    del living


def test_two_runs_that_begin_together_share_the_room(root):
    first = opened(root, "ab", entries=3)
    second = Space(root, 3 * ENTRY / 1e9)
    assert len(second.plan(own("xy", "other"), ENTRY).missing) == 1  # though nothing is written yet
    del first


def test_a_run_does_not_push_out_its_own_files(root):
    space = filled(root, "abc")
    space.max_gb = 3.5 * ENTRY / 1e9
    assert space.plan(own("de"), ENTRY).missing == []
    assert present(root) == ["a", "b", "c"]


def test_a_folder_that_was_deleted_is_made_again(root):
    space = filled(root, "a")
    shutil.rmtree(root)
    assert sorted(space.plan(own("ab"), ENTRY).missing) == own("ab")
    assert set(Lease.all_in_use(root)) == set(own("ab"))


def test_leftovers_of_dead_runs_are_removed(root):
    space = filled(root, "a")
    half = root / "enc/b.safetensors.tmp-1-ab"
    half.write_bytes(b"half")
    recent = root / "enc/c.safetensors.tmp-1-ab"
    recent.write_bytes(b"half")
    os.utime(half, (0, 0))
    del space
    assert Lease.all_in_use(root) == {}
    assert list((root / "in_use").iterdir()) == []
    opened(root, "c")
    assert not half.exists()
    assert recent.exists()


def test_other_files_beside_the_embeddings_neither_count_nor_disappear(root):
    space = filled(root, "ab")
    for name in ("index.txt", "enc/notes.txt"):
        (root / name).write_bytes(b"x" * 100 * ENTRY)
    assert Space(root, 3 * ENTRY / 1e9).plan(own("x"), ENTRY).missing == own("x")
    assert (root / "index.txt").exists()
    assert (root / "enc/notes.txt").exists()
    del space


def test_a_disk_that_fills_up_leaves_no_half_line_in_the_list_of_files_in_use(root):
    space = opened(root, ["first"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))  # no file may be longer: a write stops in the middle
    try:
        with pytest.raises(OSError, match="File too large"):
            space.plan(own("abc"), ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(Lease.all_in_use(root)) == own(["first"])


def test_processes_of_the_loaders_get_it_without_the_lock(root):
    space = filled(root, "a")
    copy = pickle.loads(pickle.dumps(space))
    assert copy.root == space.root
    del copy
    assert list(Lease.all_in_use(root)) == own("a")  # the run still holds it


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_that_ends_leaves_the_lock_to_its_run(root):
    space = opened(root, "a")
    if (worker := os.fork()) == 0:
        space._lease = None
        os._exit(0)
    os.waitpid(worker, 0)
    assert list(Lease.all_in_use(root)) == own("a")
