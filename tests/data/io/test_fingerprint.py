import os
import time

import pytest

from sam_ft.data.io import fingerprint as module
from sam_ft.data.io.fingerprint import fingerprint


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", -1.0)
    path = tmp_path / "image.png"
    path.write_bytes(b"pixels")
    return path


def wait_for_the_clock():
    time.sleep(0.02)  # a file system stamps times in steps of some milliseconds


def overwrite_in_place(path):
    """Another content of the same size, behind the same modification time."""
    before = path.stat()
    path.write_bytes(b"PIXELS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def replace(path):
    """By another file of the same size and modification time, as `cp -p` and `mv` do."""
    other = path.with_name("other")
    other.write_bytes(b"PIXELS")
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


CHANGES = [overwrite_in_place, replace, lambda path: path.touch(), lambda path: path.write_bytes(b"more pixels")]


@pytest.mark.parametrize("change", CHANGES, ids=["in place", "replaced", "touched", "rewritten"])
def test_a_file_that_was_written_has_another_fingerprint(path, change):
    before = fingerprint(path)
    assert fingerprint(path) == before is not None
    wait_for_the_clock()
    change(path)
    assert fingerprint(path) not in (None, before)


def test_reading_a_file_changes_nothing(path):
    before = fingerprint(path)
    wait_for_the_clock()
    path.read_bytes()
    assert fingerprint(path) == before


def test_a_file_read_in_another_way_has_another_fingerprint(path):
    assert len({fingerprint(path), fingerprint(path, "range", 0), fingerprint(path, "range", 1)}) == 3


def test_files_of_the_same_content_have_fingerprints_of_their_own(path):
    other = path.with_name("other.png")
    os.link(path, other)
    assert fingerprint(path) != fingerprint(other)


def test_a_fingerprint_is_the_same_from_another_folder(path, monkeypatch):
    before = fingerprint(path)
    monkeypatch.chdir(path.parent)
    assert fingerprint(path.relative_to(path.parent)) == before


@pytest.mark.parametrize("stamp", ["st_mtime", "st_ctime"])
def test_a_file_that_may_be_written_again_within_its_time_stamp_has_none(path, monkeypatch, stamp):
    monkeypatch.setattr(module, "SETTLED", 2.0)
    if stamp == "st_ctime":
        os.utime(path, (0, 0))  # as a copy that keeps the modification time
    written = path.stat()
    for age, has_one in ((1.5, False), (2.5, True)):
        now = getattr(written, stamp) + age
        monkeypatch.setattr(module.time, "time", lambda now=now: now)
        assert (fingerprint(path) is not None) == has_one


def test_a_missing_file_has_none(path):
    path.unlink()
    assert fingerprint(path) is None
