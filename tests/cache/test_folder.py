import logging
import os

import torch

from sam_ft.cache.folder import EntryFolder
from sam_ft.cache.space import Space
from sam_ft.types import Features

SHAPE = (2, 3, 3)
ENTRY = 4 * 18 + 256


def opened(home, keys=(), name="encoder-float32"):
    folder = EntryFolder(Space(home / "embeddings", 50), name, ENTRY)
    folder.plan(list(keys))
    return folder


def filled(home, keys):
    folder = opened(home, keys)
    for number, key in enumerate(keys):
        folder.write(key, features(number))
    return folder


def features(value):
    return Features((torch.full((1, *SHAPE), float(value)),))


def test_written_features_are_read_with_the_same_encoder_only(home):
    filled(home, ["a"])
    assert torch.equal(opened(home).read(["a"]).maps[0], torch.zeros(1, *SHAPE))
    assert opened(home, name="other-float32").read(["a"]) is None
    assert opened(home).read(["b"]) is None


def test_a_batch_is_read_in_its_order_and_as_a_whole(home):
    folder = filled(home, ["a", "b", "c"])
    assert folder.read(["c", "a", "c"]).maps[0][:, 0, 0, 0].tolist() == [2, 0, 2]
    folder._path("a").unlink()
    assert folder.read(["c", "a"]) is None


def test_keys_without_a_file_are_planned_and_later_lost(home):
    folder = filled(home, ["a", "b"])
    assert folder.plan(["a", "b", "c"]) == ({"a", "b", "c"}, ["c"])
    assert folder.lost(["a", "b"]) == set()
    assert folder.lost(["a", "c"]) == {"c"}
    folder._path("b").unlink()
    assert folder.lost(["a", "b"]) == {"b"}


def test_all_are_lost_with_the_folder(home):
    assert opened(home).lost(["a"]) == {"a"}


def test_a_folder_in_the_place_of_a_file_costs_that_image_alone(messages, home, caplog):
    folder = filled(home, ["a", "b"])
    for key in "bc":
        folder._path(key).unlink(missing_ok=True)
        folder._path(key).mkdir()
    (folder._path("c") / "mine").write_text("")
    assert folder.lost(["a", "b"]) == {"b"}
    assert folder.plan(["a", "b", "c", "d"]) == ({"a", "d"}, ["d"])
    messages.logged(caplog, folder._path("b"))
    folder.write("d", features(3))
    assert folder.read(["a", "d"]) is not None
    assert (folder._path("c") / "mine").exists()


def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_is_not_touched(home, tmp_path):
    folder, others = filled(home, ["a"]), [tmp_path / name for name in ("file", "folder", "missing", "fifo")]
    others[0].write_text("mine")
    os.utime(others[0], (1, 1))
    others[1].mkdir()
    os.mkfifo(others[3])
    for key, other in zip("bcde", others, strict=True):
        folder._path(key).symlink_to(other)
    assert sorted(folder.plan("abcde").missing) == list("bcde")
    for key in "bcde":
        assert not folder.holds(key)
        folder.write(key, features(1))
    assert folder.read("abcde") is not None
    assert not folder.failure
    assert others[0].read_text() == "mine"
    assert others[0].stat().st_mtime == 1
    assert others[1].is_dir()
    assert not others[2].exists()


def test_a_full_disk_is_logged_once_and_files_are_still_read(messages, home, monkeypatch, caplog):
    def fail(*_):
        raise OSError(28, "No space left on device")

    folder = filled(home, ["a"])
    folder.plan(["b", "c"])
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with caplog.at_level(logging.WARNING):
        folder.write("b", features(0))
        folder.write("c", features(0))
    messages.logged(caplog, "No space left on device", "SAM_FT_HOME")
    assert folder.read(["a"]) is not None
    assert folder.plan(["a", "d"]) == ({"a"}, [])
    assert not list((home / "embeddings").glob("*/*tmp*"))


def test_a_folder_that_cannot_be_written_plans_no_files(messages, home, caplog):
    home.mkdir()
    (home / "embeddings").write_text("")
    folder = opened(home)
    assert folder.plan(["a"]) == (set(), [])
    assert folder.lost(["a"]) == set()
    assert folder.failure
    messages.logged(caplog, home)


def test_an_error_without_a_text_counts_too(home, caplog):
    folder = opened(home)
    for _ in range(2):
        folder.give_up(OSError())
    assert folder.failure
    assert len(caplog.messages) == 1


def test_through_a_link_in_the_place_of_the_folder_nothing_is_written_read_or_deleted(messages, home, tmp_path, caplog):
    filled(home, ["a"])
    elsewhere = tmp_path / "elsewhere"
    (home / "embeddings/encoder-float32").rename(elsewhere)
    (elsewhere / "mine.tmp-999999999-0123abcd").write_text("")
    (home / "embeddings/encoder-float32").symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    folder = opened(home)
    assert folder.plan(["a", "b"]) == (set(), [])
    messages.logged(caplog, "encoder-float32 is a link")
    assert folder.failure
    assert sorted(elsewhere.iterdir()) == before
