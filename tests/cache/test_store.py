import logging
import math
import os
import pickle
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch

from sam_ft.cache.store import FeatureStore, Lease

SHAPE = (2, 3, 3)
ENTRY = 4 * 18 + 256  # bytes that the store counts for one of these embeddings


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path))


def opened(keys=(), encoder="enc", entries=1000.0, dtype="float32"):
    store = FeatureStore(dtype, max_gb=entries * ENTRY / 1e9)
    store.open(encoder, SHAPE)
    plan = store.plan(list(keys))
    store.keep(plan)
    return store


def filled(keys, **options):
    store = opened(keys, **options)
    for number, key in enumerate(keys):
        store.put(key, torch.full(SHAPE, float(number)))
    return store


def age(store, key, seconds):
    os.utime(store._path(key), (time.time() - seconds,) * 2)


def test_what_is_put_is_loaded_by_another_store_of_the_same_encoder_only():
    filled(["a"])
    assert torch.equal(opened().load("a"), torch.zeros(SHAPE))
    assert opened(encoder="other").load("a") is None
    assert opened(dtype="float16").load("a") is None
    assert opened().load("b") is None


def test_float16_halves_the_file_and_keeps_three_digits():
    values = torch.randn(SHAPE)
    store = opened(["a"], dtype="float16")
    store.put("a", values)
    assert store.load("a").dtype == torch.float16
    torch.testing.assert_close(store.load("a").float(), values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "shape"])
def test_any_damage_is_noticed(damage):
    store = filled(["a"])
    path = store._path("a")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        for place in range(len(data)):  # also those of the header and of the checksum itself
            flipped = bytearray(data)
            flipped[place] ^= 1
            path.write_bytes(flipped)
            loaded = store.load("a")
            assert loaded is None or torch.equal(loaded, torch.zeros(SHAPE)), place
            assert loaded is None or place < len(data) - 72, "a flipped number went unnoticed"
        return
    if damage == "shape":
        store._shape = (3, 3, 2)
    else:
        path.write_bytes(data[:-1] if damage == "cut" else b"")
    assert store.load("a") is None


def test_a_damaged_entry_is_written_again():
    store = filled(["a"])
    store._path("a").write_bytes(b"damaged")
    assert store.put("a", torch.ones(SHAPE))
    assert torch.equal(store.load("a"), torch.ones(SHAPE))


def test_only_what_was_planned_is_written():
    store = opened(["a"])
    assert not store.put("b", torch.ones(SHAPE))
    assert "b" not in store


def test_the_least_recently_used_leave_first():
    old = filled(["a", "b", "c"])
    for key, seconds in (("a", 10), ("b", 30), ("c", 20)):
        age(old, key, seconds)
    size = old._path("a").stat().st_size
    del old
    new = FeatureStore("float32", max_gb=(2 * size + 2 * ENTRY) / 1e9)
    new.open("other", SHAPE)
    assert set(new.plan(["x", "y"]).missing) == {"x", "y"}
    assert sorted(path.stem for path in Path(new._root).glob("enc-*/*")) == ["a", "c"]


def test_using_an_entry_makes_it_recent():
    store = filled(["a", "b"])
    for key in ("a", "b"):
        age(store, key, 1000)
    opened(["a"])
    assert store._path("a").stat().st_mtime > store._path("b").stat().st_mtime + 900


def test_what_a_living_run_uses_never_leaves(caplog):
    living = filled(["a", "b"])
    size = living._path("a").stat().st_size
    new = FeatureStore("float32", max_gb=(2 * size + 1.5 * ENTRY) / 1e9)
    new.open("other", SHAPE)
    plan = new.plan(["x", "y", "z"])
    assert len(plan.missing) == 1
    assert plan.kept == set(plan.missing)
    assert "has room for 1 of 3 new embeddings" in caplog.text
    assert living.load("a") is not None
    assert living.load("b") is not None


def test_two_runs_that_begin_together_share_the_room():
    first = opened(["a", "b"], entries=3)
    second = FeatureStore("float32", max_gb=3 * ENTRY / 1e9)
    second.open("other", SHAPE)
    assert len(first._kept) == 2
    assert len(second.plan(["x", "y"]).missing) == 1  # though nothing is written yet


def test_storing_goes_on_after_the_folder_was_deleted():
    store = filled(["a"])
    shutil.rmtree(store._root)
    store.keep(store.plan(["a", "b"]))
    assert store.put("b", torch.ones(SHAPE))
    assert store.writable
    assert set(Lease.all_in_use(store._root)) == {store._path("a"), store._path("b")}


def test_loaders_of_other_processes_get_the_store_without_its_lock():
    copy = pickle.loads(pickle.dumps(filled(["a"])))
    assert torch.equal(copy.load("a"), torch.zeros(SHAPE))


def test_a_run_does_not_push_out_its_own_entries():
    store = filled(["a", "b", "c"])
    store.max_gb = 3.5 * store._path("a").stat().st_size / 1e9
    plan = store.plan(["d", "e"])
    assert plan.missing == []
    assert all(key in store for key in "abc")


def test_what_dead_runs_leave_behind_is_removed():
    store = filled(["a"])
    half = store._path("b").with_name("b.safetensors.tmp-1-ab")
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    root = store._root
    del store
    assert Lease.all_in_use(root) == {}
    assert list((root / "in_use").iterdir()) == []
    opened(["c"])
    assert not half.exists()


def test_a_full_disk_is_said_once_and_what_is_there_is_still_read(monkeypatch, caplog):
    store = filled(["a"])
    store.keep(store.plan(["b", "c"]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with caplog.at_level(logging.WARNING):
        assert not store.put("b", torch.ones(SHAPE))
        assert not store.put("c", torch.ones(SHAPE))
    assert caplog.text.count("No space left on device") == 1
    assert "SAM_FT_HOME" in caplog.text
    assert store.load("a") is not None
    assert not list(store._folder.glob("*tmp*"))


def test_a_folder_that_cannot_be_written_is_said_and_costs_only_time(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path / "file"))
    store = FeatureStore()
    store.open("enc", SHAPE)
    assert store.plan(["a"]) == (set(), [])
    assert not store.writable
    assert "can no longer be stored" in caplog.text


def test_a_disk_that_fills_up_leaves_no_half_line_in_the_list_of_what_is_in_use(tmp_path, caplog):
    store = opened(["first"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))  # no file may be longer: a write stops in the middle
    try:
        plan = store.plan(["a", "b", "c"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (plan, store.writable) == ((set(), []), False)
    assert [path.stem for path in Lease.all_in_use(tmp_path / "features")] == ["first"]
    assert store.plan(["d"]) == (set(), [])
    assert caplog.text.count("can no longer be stored") == 1


@pytest.mark.parametrize(
    "options", [{"dtype": "bfloat16"}, {"max_gb": 0}, {"max_gb": math.inf}, {"views": 0}, {"views": 9}]
)
def test_odd_options_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        FeatureStore(**options)
