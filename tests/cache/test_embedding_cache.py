import math
import os
import pickle
import shutil
import threading
import time

import pytest
import safetensors.torch
import torch

from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.tiled import TiledSplit
from sam_ft.data.transforms import Augment
from sam_ft.task import PromptedSegmentation
from sam_ft.utils.errors import ConfigError
from tests.support.blobs import Blobs
from tests.support.caching import COUNTS, ENTRY_BYTES, Cached, Known, Ranks
from tests.support.steps import steps
from tests.support.tiny import tiny_sam


def files(home):
    return sorted(home.glob("embeddings/*/*.safetensors"))


def encoding_lines(caplog):
    return [line for line in caplog.messages if "encoding" in line]


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level("INFO", "sam_ft")


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


def test_cached_embeddings_are_the_fresh_ones():
    run = Cached().fill()
    batch = run.dataset.batch([0, 1, 2])
    assert batch.images is None
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))


def test_float16_rounds_cached_and_fresh_embeddings_alike():
    run = Cached(dtype="float16").fill()
    batch = run.dataset.batch([0, 1, 2])
    assert batch.features.maps[0].dtype == torch.float16
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))
    exact = Cached().fresh([0, 1, 2])
    assert not torch.equal(run.fresh([0, 1, 2]), exact)
    torch.testing.assert_close(run.fresh([0, 1, 2]), exact, rtol=1e-3, atol=1e-3)


def test_swapped_entries_change_no_features_and_are_encoded_again(home, caplog):
    run = Cached().fill()
    expected, paths = run.fresh([0, 1, 2]), [run.path(image) for image in range(3)]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    run = Cached().fill()  # the next start
    assert torch.equal(run.task.encode(run.dataset.batch([0, 1, 2])).embedding, expected)
    for image in range(3):
        assert run.dataset.batch([image]).features is None
    assert caplog.text.count("of another image") == 3
    run.fill()
    assert torch.equal(run.dataset.batch([0, 1, 2]).features.embedding, expected)


def test_a_batch_with_an_image_that_is_not_cached_is_read_as_pixels():
    run = Cached().fill([(1, 0)])
    assert run.dataset.batch([1]).images is None
    batch = run.dataset.batch([0, 1])
    assert batch.features is None
    assert len(batch.images) == 2
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1]))


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"damaged")])
def test_a_missing_or_damaged_entry_is_read_as_pixels_and_encoded_by_the_next_fill(messages, damage, caplog):
    run = Cached().fill()
    expected, path = run.fresh([0, 1]), run.path(1)
    damage(path)
    batch = run.dataset.batch([0, 1])
    assert batch.features is None
    assert torch.equal(run.task.encode(batch).embedding, expected)
    assert not path.exists()
    caplog.clear()
    run.fill()
    assert run.encoded == 4
    messages.check(caplog.messages[0], "1 cached embedding")
    assert path.exists()
    assert run.dataset.batch([0, 1]).images is None
    assert torch.equal(run.task.encode(run.dataset.batch([0, 1])).embedding, expected)
    caplog.clear()
    run.fill()
    assert caplog.messages == []


def test_a_lost_entry_without_room_is_not_looked_for_again(caplog):
    run = Cached(max_gb=2.5 * ENTRY_BYTES / 1e9, split=Blobs([1, 2])).fill()
    run.path(0).unlink()
    run.cache._space.max_gb = 1.5 * ENTRY_BYTES / 1e9
    run.fill()
    assert run.dataset.keys[0, 0] == ""
    caplog.clear()
    run.fill()
    assert caplog.messages == []


def test_an_image_that_changed_since_is_read_as_pixels_until_the_next_start(home):
    run = Cached(Known(COUNTS)).fill()
    run.path(0).unlink()
    run.dataset.split.counts = [3, 1, 3]
    run.fill()
    assert len(files(home)) == 2
    assert run.dataset.batch([0]).images is not None
    run.fill()
    assert len(files(home)) == 2
    again = Cached(Known([3, 1, 3])).fill()
    assert again.encoded == 1
    assert torch.equal(again.task.encode(again.dataset.batch([0])).embedding, again.fresh([0]))


def test_a_cache_folder_deleted_during_a_run_is_filled_again(home, caplog):
    run = Cached().fill()
    shutil.rmtree(home / "embeddings")
    assert run.dataset.batch([0, 1]).images is not None
    run.fill()
    assert run.encoded == 6
    assert "3 cached embeddings" in caplog.text
    assert run.dataset.batch([0, 1]).images is None


def test_images_without_room_are_encoded_each_time(home, caplog):
    run = Cached(max_gb=2.5 * ENTRY_BYTES / 1e9).fill()
    assert run.encoded == 2
    assert len(files(home)) == 2
    assert sorted(key == "" for key in run.dataset.keys.values()) == [False, False, True]
    batch = run.dataset.batch([0, 1, 2])
    assert batch.features is None
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))
    assert "2 of 3 new embeddings" in caplog.text


def test_a_run_whose_files_another_one_needed_reads_pixels_and_encodes_them_each_time(home):
    room = 3.5 * ENTRY_BYTES / 1e9
    earlier = Cached(max_gb=room).fill()
    expected = earlier.task.encode(earlier.dataset.batch([0, 1, 2])).embedding
    for path in files(home):
        os.utime(path, (time.time() - 60,) * 2)
    later = Cached(seed=1, max_gb=room).fill()
    assert len(files(home)) == 3
    for _ in range(2):
        earlier.cache._space._started -= 120  # it began a minute before its files were used
        earlier.fill()
        batch = earlier.dataset.batch([0, 1, 2])
        assert batch.features is None
        assert torch.equal(earlier.task.encode(batch).embedding, expected)
    assert earlier.encoded == 3
    assert later.dataset.batch([0, 1, 2]).images is None


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


def test_an_embedding_that_another_run_has_written_meanwhile_is_not_encoded(home):
    run = Cached()
    encode = run.encode

    def slow(images, *sizes):
        Cached().fill()  # the other run
        return encode(images, *sizes)

    run.encode = slow
    run.fill(per_pass=1)
    assert run.encoded == 1


def test_entries_of_views_are_those_of_the_turned_images_and_the_masks_move_along():
    run = Cached()
    plain, dataset = (TrainingSet(Blobs(COUNTS), Augment([]), 64, None, 0, 8, read) for read in (None, run.cache.read))
    run.fill({view for epoch in range(40) for view in dataset.views_in(epoch, range(3))}, dataset)
    assert run.encoded == 24
    for epoch in range(40):
        ours, theirs = (some.batch([some.draw(epoch, image) for image in range(3)]) for some in (dataset, plain))
        assert ours.images is None
        assert torch.equal(ours.masks, theirs.masks)
        assert torch.equal(ours.boxes, theirs.boxes)
        assert ours.sizes == theirs.sizes
        assert torch.equal(ours.features.maps[0], run.task.prefix(theirs.images, theirs.sizes).maps[0])


def test_an_encoder_whose_neck_learns_trains_from_cached_maps_exactly_as_from_fresh_ones(home):
    fresh, cached = (steps("image_encoder.neck", 1, COUNTS, dtype) for dtype in (None, "float32"))
    assert len(files(home)) >= 3
    shapes = {tuple(tensor.shape) for tensor in safetensors.torch.load_file(files(home)[0]).values()}
    assert math.prod(shapes.pop()) == 32 * 4 * 4  # before the neck
    assert cached["losses"] == fresh["losses"]
    assert cached["scores"] == fresh["scores"]
    assert all(torch.equal(tensor, fresh["weights"][name]) for name, tensor in cached["weights"].items())


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


def test_loaders_of_other_processes_read_from_a_copy():
    run = Cached().fill()
    copy = pickle.loads(pickle.dumps(run.dataset))
    assert torch.equal(copy.batch([0, 2]).features.maps[0], run.dataset.batch([0, 2]).features.maps[0])


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


def fill_on_two(monkeypatch, split=COUNTS, fills=1):
    """Two processes that fill a cache of the same images, and their runs."""
    ranks = Ranks(monkeypatch)
    runs = [Cached(Known(split)) for _ in range(2)]

    def work(rank):
        for _ in range(fills):
            runs[rank].fill(per_pass=1)

    return ranks, runs, work


def test_two_processes_share_the_work_and_both_read_all(monkeypatch, home):
    ranks, runs, work = fill_on_two(monkeypatch)
    ranks.run(work)
    assert sorted(run.encoded for run in runs) == [1, 2]
    assert runs[0].dataset.keys == runs[1].dataset.keys
    for run in runs:
        assert run.dataset.batch([0, 1, 2]).images is None


@pytest.mark.parametrize("failing", [0, 1])
def test_a_disk_that_is_full_for_one_process_ends_the_writing_of_all(monkeypatch, caplog, failing):
    ranks, runs, work = fill_on_two(monkeypatch, [1] * 8, fills=3)
    save = safetensors.torch.save_file

    def fail(*arguments):
        if ranks.local.rank == failing:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    ranks.run(work)
    assert runs[failing].encoded == 1
    assert runs[1 - failing].encoded == 4
    assert "No space left" in runs[0].cache._folder.failure == runs[1].cache._folder.failure
    assert caplog.text.count("can no longer be cached") == 2  # of which the log shows that of the main process
    assert len(encoding_lines(caplog)) == 2
    assert runs[0].dataset.batch(list(range(8))).images is not None


def test_damage_and_deletion_on_any_process_keep_two_processes_together(monkeypatch, home, caplog):
    ranks, runs, work = fill_on_two(monkeypatch)
    ranks.run(work)
    runs[0].path(0).write_bytes(b"damaged")
    assert runs[1].dataset.batch([0]).images is not None
    runs[0].path(2).unlink()
    ranks.run(work)
    assert sum(run.encoded for run in runs) == 5
    shutil.rmtree(home / "embeddings")
    ranks.run(work)
    assert sum(run.encoded for run in runs) == 8
    assert runs[1].dataset.batch([0, 1, 2]).images is None


def test_an_image_that_changed_on_one_process_is_read_as_pixels_by_both(monkeypatch):
    ranks, runs, work = fill_on_two(monkeypatch)
    ranks.run(work)
    for path in [runs[0].path(image) for image in range(3)]:
        path.unlink()
    for run in runs:
        run.dataset.split.counts = [2, 2, 3]
    ranks.run(work)
    assert [key == "" for _, key in sorted(runs[0].dataset.keys.items())] == [False, True, False]
    assert runs[0].dataset.keys == runs[1].dataset.keys


def test_two_runs_at_once_both_end_with_all_images(home):
    runs = [Cached(), Cached()]
    threads = [threading.Thread(target=run.fill) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files(home)) == 3
    for run in runs:
        assert run.dataset.batch([0, 1, 2]).images is None


def test_features_that_do_not_fit_into_float16_are_refused(home):
    run = Cached(dtype="float16")
    with torch.no_grad():
        run.task.model.image_encoder.neck[3].bias.fill_(1e5)  # float16 ends at 65504
    with pytest.raises(ConfigError, match=r"blobs_\d.*cache\.dtype=float16; set cache\.dtype=float32"):
        run.fill()
    assert not list(home.rglob("*.safetensors"))


def test_tiles_are_encoded_with_the_extremes_of_their_image_and_cached_so():
    def cached(extremes_at):
        run = Cached(TiledSplit(Known(COUNTS), 40, overlap=0.5, extremes_at=extremes_at))
        run.task.model.normalize = "minmax"
        return run.fill()

    whole, own = cached(64), cached(None)
    tiles = len(whole.dataset)
    assert (whole.encoded, own.encoded) == (tiles, tiles)  # not each other's entries
    assert cached(64).encoded == 0
    for run in (whole, own):
        read = run.dataset.batch(list(range(tiles))).features.embedding
        assert torch.equal(read, run.fresh(list(range(tiles))))
    images = EvaluationSet(whole.dataset.split, 64).batch([0, 1])
    assert images.extremes.shape == (2, 2)
    assert torch.equal(images.extremes[0], images.extremes[1])  # tiles of one image
    assert not torch.equal(whole.fresh(list(range(tiles))), own.fresh(list(range(tiles))))
