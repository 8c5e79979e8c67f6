"""Processes of one run, and runs at once, share a cache."""

import os
import shutil
import threading
import time

import pytest
import safetensors.torch
import torch

from tests.support.caching import COUNTS, ENTRY_BYTES, Cached, Known, Ranks, files

pytestmark = pytest.mark.usefixtures("log_level")


def encoding_lines(caplog):
    return [line for line in caplog.messages if "encoding" in line]


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


def test_an_embedding_that_another_run_has_written_meanwhile_is_not_encoded(home):
    run = Cached()
    encode = run.encode

    def slow(images, *sizes):
        Cached().fill()  # the other run
        return encode(images, *sizes)

    run.encode = slow
    run.fill(per_pass=1)
    assert run.encoded == 1


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
