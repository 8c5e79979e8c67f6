"""An entry that is swapped, damaged or deleted is read as pixels, and encoded again."""

import shutil

import pytest
import torch

from tests.support.blobs import Blobs
from tests.support.caching import COUNTS, ENTRY_BYTES, Cached, Known, files

pytestmark = pytest.mark.usefixtures("log_level")


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
