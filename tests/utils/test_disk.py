import errno
import os

import pytest
import safetensors.torch
import tifffile
import torch
from PIL import Image

from sam_ft.utils.disk import NO_ROOM, OptionalFiles, WriteError, writing
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path, write_atomic

NUMBERS = torch.randint(0, 255, (800, 800), dtype=torch.uint8)


def save_torch(path):
    with open(path, "wb") as file:
        torch.save(NUMBERS, file)


WRITERS = {  # each library has an error of its own for a disk that is full
    "python": lambda path: path.write_bytes(bytes(640_000)),
    "safetensors": lambda path: safetensors.torch.save_file({"a": NUMBERS}, path),
    "torch": save_torch,
    "pillow": lambda path: Image.fromarray(NUMBERS.numpy()).save(path, format="PNG"),
    "tifffile": lambda path: tifffile.imwrite(path, NUMBERS.numpy()),
    "tifffile, compressed": lambda path: tifffile.imwrite(path, NUMBERS.numpy(), compression="zlib"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_with_the_bytes_and_the_old_file_stays(messages, small_disk, writer):
    path = small_disk.place / "folder" / "file"
    write_atomic(path, "old")
    free = small_disk.free
    with (
        messages.raises(WriteError, path, "No space left on device", f"{free:,} bytes free"),
        atomic_path(path) as part,
    ):
        WRITERS[writer](part)
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    assert small_disk.free == free


def test_the_bytes_of_a_content_that_is_known_are_named(small_disk):
    free = f"{small_disk.free:,} bytes"
    with pytest.raises(WriteError, match=rf": 400,001 bytes needed, {free} free\); make room"):
        write_atomic(small_disk.place / "file", "x" * 400_001)
    with pytest.raises(WriteError, match=rf": more than {free} needed"), atomic_path(small_disk.place / "a") as a:
        a.write_bytes(bytes(400_001))


def test_a_disk_that_is_read_only_is_one_line(messages, small_disk):
    small_disk.protect()
    with messages.raises(WriteError, small_disk.place, "Read-only file system"):
        write_atomic(small_disk.place / "new" / "file", "content")


@pytest.mark.skipif(not hasattr(os, "geteuid") or not os.geteuid(), reason="root may write everywhere")
def test_a_folder_of_another_user_is_one_line(messages, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o555)
    with messages.raises(WriteError, tmp_path / "folder/file", "Permission denied"):
        write_atomic(tmp_path / "folder" / "file", "content")


@pytest.mark.parametrize("place", ["file/new", "file/new/file", "folder"])
def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file(messages, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder/full").mkdir(parents=True)
    with messages.raises(WriteError, tmp_path / place):
        write_atomic(tmp_path / place, "content")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "full"]


def test_it_is_a_users_mistake_and_an_oserror_for_those_that_go_on_without_the_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, writing(tmp_path / "a", 5):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(caught.value, ConfigError)
    assert caught.value.errno in NO_ROOM


def test_a_bug_and_a_file_that_cannot_be_read_keep_their_own_error(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a"):
        1 / 0  # noqa: B018
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "other").read_text()
    assert not list(tmp_path.iterdir())


def test_files_that_a_run_goes_on_without_are_one_warning_and_each_is_tried(small_disk, caplog):
    files = OptionalFiles("it will lack pictures")
    full, small = small_disk.place / "full", small_disk.place / "small"
    assert not files.write(full, lambda: write_atomic(full, bytes(400_000)))
    assert not files.write(full, lambda: write_atomic(full, bytes(400_000)))
    assert files.write(small, lambda: write_atomic(small, b"x"))
    assert [path.name for path in small_disk.place.iterdir()] == ["small"]
    (warning,) = caplog.messages
    assert warning.startswith(f"{full}: cannot be written (No space left on device: 400,000 bytes needed")
    assert warning.endswith("; it will lack pictures")
    with pytest.raises(ZeroDivisionError):
        files.write(small, lambda: 1 / 0)
