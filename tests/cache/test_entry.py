import os
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from sam_ft.cache.entry import HEADER_BYTES, read_entry, write_entry
from sam_ft.types import Features

SHAPE = (2, 3, 3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encoder" / "key.safetensors"


def features(*maps):
    return Features(tuple(one[None] for one in maps))


def assert_equal(read, written):
    assert len(read.maps) == len(written.maps)
    for ours, theirs in zip(read.maps, written.maps, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
        assert ours[0].stride() == theirs[0].stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_file_holds_the_features_of_one_image(path, dtype):
    written = features(torch.randn(SHAPE).to(dtype))
    write_entry(path, written)
    assert_equal(read_entry(path), written)


def test_float16_halves_the_file_and_keeps_three_digits(path):
    values = torch.randn(64, 8, 8)
    write_entry(path, features(values))
    whole = path.stat().st_size
    write_entry(path, features(values.half()))
    assert path.stat().st_size == pytest.approx(whole - 2 * values.numel(), abs=16)  # the header is padded
    torch.testing.assert_close(read_entry(path).maps[0][0].float(), values, rtol=1e-3, atol=1e-3)


def test_channels_are_last_in_memory_where_the_encoder_left_them_so(path):
    written = Features((torch.randn(1, 4, 3, 5).contiguous(memory_format=torch.channels_last),))
    assert not written.maps[0].is_contiguous()
    write_entry(path, written)
    assert_equal(read_entry(path), written)


def test_several_maps_of_any_shape_keep_their_order(path):
    last = torch.randn(1, 4, 3, 5).contiguous(memory_format=torch.channels_last)
    written = Features((torch.randn(1, 7), last, torch.randn(1, 2, 2, 2, 2)))
    write_entry(path, written)
    assert_equal(read_entry(path), written)


def test_one_image_of_a_batch_takes_the_space_of_one(path):
    batch = Features((torch.randn(16, *SHAPE),))
    write_entry(path, batch.image(3))
    assert path.stat().st_size <= 4 * 18 + HEADER_BYTES
    assert torch.equal(read_entry(path).maps[0], batch.maps[0][3:4])


def test_any_flipped_byte_is_noticed(path):
    written = features(torch.zeros(SHAPE))
    write_entry(path, written)
    data = path.read_bytes()
    for place in range(len(data)):  # also those of the header and of the checksum itself
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        read = read_entry(path)
        if read is not None:  # a letter of the header that no reader looks at
            assert place < len(data) - 72, "a flipped number went unnoticed"
            assert_equal(read, written)
        else:
            assert not path.exists()


@pytest.mark.parametrize("other", ["encoder/another", "other/key", "other/another"])
def test_a_copy_under_another_key_or_of_another_encoder_is_refused_with_a_warning(messages, path, other, caplog):
    write_entry(path, features(torch.ones(SHAPE)))
    copy = path.parents[1] / f"{other}.safetensors"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(path, copy)
    assert read_entry(copy) is None
    assert not copy.exists()
    messages.logged(caplog, copy)
    assert read_entry(path) is not None


def test_a_note_that_was_changed_by_hand_is_refused(path):
    write_entry(path, features(torch.arange(18.0).view(SHAPE)))
    with safe_open(path, framework="pt") as file:
        notes, numbers = file.metadata(), {"map0": file.get_tensor("map0")}
    for name in sorted(notes):
        changed = {**notes, name: notes[name][::-1] + "1"} if name != "order0" else {**notes, name: "0 2 1"}
        safetensors.torch.save_file(numbers, path, changed)
        assert read_entry(path) is None


def test_what_is_no_file_in_the_place_of_one_is_neither_opened_nor_removed(path, tmp_path):
    other = tmp_path / "other" / "key.safetensors"
    write_entry(other, features(torch.ones(SHAPE)))
    places = [lambda: path.symlink_to(other), lambda: path.symlink_to("missing"), path.mkdir, lambda: os.mkfifo(path)]
    path.parent.mkdir()
    for place in places:
        place()
        assert read_entry(path) is None
        assert os.path.lexists(path)
        path.rmdir() if path.is_dir() else path.unlink()
    assert read_entry(other) is not None


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda _: b"damaged", lambda d: d + b"x"])
def test_a_damaged_file_is_deleted_and_can_be_written_again(path, damage):
    written = features(torch.ones(SHAPE))
    write_entry(path, written)
    path.write_bytes(damage(path.read_bytes()))
    assert read_entry(path) is None
    assert not path.exists()
    write_entry(path, written)
    assert_equal(read_entry(path), written)


def test_a_missing_file_has_no_features(path):
    assert read_entry(path) is None


def test_a_file_that_cannot_be_opened_at_the_moment_stays(path, monkeypatch):
    def fail(*_, **__):
        raise OSError(24, "Too many open files")

    write_entry(path, features(torch.ones(SHAPE)))
    with monkeypatch.context() as patch:
        patch.setattr("sam_ft.cache.entry.safe_open", fail)
        assert read_entry(path) is None
    assert read_entry(path) is not None


def test_a_damaged_file_in_a_folder_that_cannot_be_written_is_skipped(path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    write_entry(path, features(torch.ones(SHAPE)))
    path.write_bytes(b"damaged")
    monkeypatch.setattr(Path, "unlink", fail)
    assert read_entry(path) is None
