"""Each image is encoded once, for all runs, while there is room."""

import math

import pytest
import torch

from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.task import PromptedSegmentation
from tests.support.blobs import Blobs
from tests.support.caching import COUNTS, ENTRY_BYTES, Cached, Known, files
from tests.support.tiny import tiny_sam

pytestmark = pytest.mark.usefixtures("log_level")


@pytest.mark.parametrize(
    "options", [{"dtype": "bfloat16"}, {"max_gb": 0}, {"max_gb": math.inf}, {"views": 0}, {"views": 9}]
)
def test_odd_options_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        EmbeddingCache(**options)


def test_each_image_is_encoded_once_for_all_runs(home):
    for expected in (3, 0):
        assert Cached().fill().fill().encoded == expected
    assert len(files(home)) == 3


def test_only_missing_images_are_encoded():
    Cached().fill([(1, 0)])
    assert Cached().fill().encoded == 2


def test_the_log_counts_the_images_that_are_new(messages, caplog):
    Cached().fill([(1, 0)])
    caplog.clear()
    Cached().fill()
    messages.logged(caplog, "test: ", " 2 ", "of 3")
    caplog.clear()
    Cached().fill()
    assert caplog.messages == []


def test_other_weights_never_meet_the_same_embedding():
    Cached().fill()
    assert Cached(seed=1).fill().encoded == 3


def test_a_changed_image_is_encoded_and_a_renamed_one_is_not():
    Cached().fill()
    renamed = Blobs(COUNTS)
    renamed.names = ["x", "y", "z"]
    assert Cached(renamed).fill().encoded == 0
    assert Cached(Blobs([2, 1, 2])).fill().encoded == 1


def test_input_sides_and_views_have_entries_of_their_own(home):
    run = Cached()
    run.fill([(0, view) for view in range(8)])
    assert run.encoded == 8
    assert len(files(home)) == 8
    other = Cached()
    other.dataset.image_size = 32
    other.cache._folder._name = "other"  # as an encoder of that side has
    other.encode = lambda images, *sizes: run.encode(torch.zeros(len(images), 3, 64, 64, dtype=torch.uint8), *sizes)
    other.fill([(0, 0)])
    assert set(run.dataset.keys.values()).isdisjoint(other.dataset.keys.values())


def test_a_start_with_everything_cached_reads_no_image(monkeypatch):
    first = Cached(Known(COUNTS)).fill()
    annotations = [first.dataset.split.annotations(index) for index in range(3)]
    monkeypatch.setattr(Blobs, "annotations", lambda self, index: annotations[index])
    monkeypatch.setattr(Blobs, "__getitem__", None)
    run = Cached(Known(COUNTS)).fill()
    batch = run.dataset.batch([2, 0, 1])
    assert batch.images is None
    assert run.encoded == 0
    assert run.task.encode(batch).embedding.shape == (3, 256, 4, 4)


def test_images_without_room_are_encoded_each_time(home, caplog):
    run = Cached(max_gb=2.5 * ENTRY_BYTES / 1e9).fill()
    assert run.encoded == 2
    assert len(files(home)) == 2
    assert sorted(key == "" for key in run.dataset.keys.values()) == [False, False, True]
    batch = run.dataset.batch([0, 1, 2])
    assert batch.features is None
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))
    assert "2 of 3 new embeddings" in caplog.text


def test_images_without_room_are_looked_at_once(caplog):
    run = Cached(max_gb=1e-9).fill().fill()
    assert run.encoded == 0
    assert caplog.text.count("0 of 3 new embeddings") == 1


def test_the_size_of_an_entry_is_that_of_its_file(home):
    for learning in ("", "image_encoder.neck.", "image_encoder.blocks.1."):
        run = Cached()
        for name, parameter in run.task.model.named_parameters():
            parameter.requires_grad = bool(learning) and name.startswith(learning)
        run.task = PromptedSegmentation(run.task.model, features_dtype=torch.float32)
        run.cache.open(run.task.model, torch.float32)
        run.fill()
        size = run.path(0).stat().st_size
        assert abs(run.cache._folder._entry_bytes - size) < 256


def test_equal_images_share_an_entry(home):
    run = Cached(Blobs([1, 1, 1]))
    get = run.dataset.split.__class__.__getitem__
    run.dataset.split.__class__ = type("Same", (Blobs,), {"__getitem__": lambda self, _: get(self, 0)})
    run.fill()
    assert run.encoded == 1
    assert len(files(home)) == 1


def test_an_encoder_that_learns_from_its_first_unit_on_has_no_cache(home, caplog):
    cache = EmbeddingCache()
    cache.open(tiny_sam(), torch.float32)
    assert not cache.enabled
    assert cache.features_dtype is None
    assert "cache: off" in caplog.text
    run = Cached()
    run.cache = cache
    assert run.fill().encoded == 0
    assert not home.exists() or not files(home)


def test_no_cache_encodes_nothing_ahead(home):
    run = Cached()
    run.cache = no_cache()
    run.cache.open(run.task.model, torch.float32)
    assert run.fill().encoded == 0
    assert (run.cache.features_dtype, run.cache.views) == (None, None)
    assert not home.exists()


def test_a_folder_that_cannot_be_written_costs_time_only(home, caplog):
    home.mkdir()
    (home / "embeddings").write_text("")
    run = Cached().fill().fill()
    assert run.encoded == 0
    assert run.dataset.batch([0, 1]).images is not None
    assert caplog.text.count("can no longer be cached") == 1


def test_filling_again_costs_a_listing_of_one_folder(monkeypatch):
    run = Cached().fill()
    monkeypatch.setattr(run.cache._space, "plan", None)
    monkeypatch.setattr(run.cache._index, "find", None)
    monkeypatch.setattr(Blobs, "__getitem__", None)
    run.fill()
