import pytest
import torch

from sam_ft.cache import views as views_module
from sam_ft.cache.index import SideIndex
from sam_ft.cache.views import ViewImages, find_keys, pixels_key, walk
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.transforms import Augment
from sam_ft.utils.errors import DataError
from tests.support.blobs import Blobs
from tests.support.caching import COUNTS, Known, Ranks

ALL = [(image, view) for image in range(3) for view in range(8)]


@pytest.fixture
def index(home):
    return SideIndex(home / "embeddings/index.txt")


def keys_of(split, index, views=ALL, side=64):
    return find_keys(EvaluationSet(split, side), views, index, 0, "test")


@pytest.fixture
def unreadable(monkeypatch):
    """Images that are read from here on fail the test."""

    def fail(_, index):
        raise AssertionError(f"image {index} was read")

    return lambda: monkeypatch.setattr(Blobs, "__getitem__", fail)


def test_views_are_the_pixels_and_sizes_of_the_training_set():
    dataset = TrainingSet(Blobs(COUNTS), Augment([]), 64, None, 0, views=8)
    images = ViewImages(dataset.split, 64, with_pixels=True)
    seen = set()
    for draw in (dataset.draw(epoch, image) for epoch in range(40) for image in range(3)):
        batch = dataset.batch([draw])
        (item,) = images.__getitems__([(draw.image, draw.view)])
        assert torch.equal(item.image, batch.images[0])
        assert item.size == batch.sizes[0]
        seen.add(item.view)
    assert seen == set(ALL)


def test_fewer_views_always_hold_the_image_itself_and_differ_between_names():
    dataset = TrainingSet(Blobs([1] * 30), Augment([]), 64, None, 0, views=2)
    views = [{dataset.draw(epoch, image).view for epoch in range(30)} for image in range(30)]
    assert all(0 in of_image and len(of_image) == 2 for of_image in views)
    assert set.union(*views) == set(range(8))


def test_each_image_view_and_side_has_a_key_of_its_own(index):
    keys = [*keys_of(Blobs(COUNTS), index).values(), *keys_of(Blobs(COUNTS), index, side=32).values()]
    assert len(set(keys)) == 48
    assert all(len(key) == 40 for key in keys)


def test_a_key_depends_on_pixels_and_shape_alone():
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    assert pixels_key(image) == pixels_key(image.mT.contiguous().mT)
    assert len({pixels_key(image), pixels_key(image.reshape(3, 4, 2)), pixels_key(image + 1)}) == 3


def test_keys_are_found_without_pixels():
    images = ViewImages(Blobs(COUNTS), 64, with_pixels=False)
    with_pixels = ViewImages(Blobs(COUNTS), 64, with_pixels=True)
    for ours, theirs in zip(images.__getitems__(ALL), with_pixels.__getitems__(ALL), strict=True):
        assert ours.image is None
        assert ours[:3] == theirs[:3]


def test_images_with_known_fingerprints_are_not_read(index, unreadable):
    keys = keys_of(Known(COUNTS), index)
    unreadable()
    assert keys_of(Known(COUNTS), index) == keys


def test_images_without_fingerprints_are_read_each_time(index, unreadable):
    assert keys_of(Blobs(COUNTS), index) == keys_of(Known(COUNTS), index)
    unreadable()
    with pytest.raises(AssertionError, match="was read"):
        keys_of(Blobs(COUNTS), index)


def test_only_unknown_views_are_read(index, monkeypatch):
    keys_of(Known(COUNTS), index, [(0, 0), (2, 5)])
    read = []
    get = Blobs.__getitem__
    monkeypatch.setattr(Blobs, "__getitem__", lambda self, index: (read.append(index), get(self, index))[1])
    keys_of(Known([2, 4, 3]), index, [(0, 0), (1, 0), (2, 5), (2, 6)])
    assert sorted(read) == [1, 2]


def test_a_changed_image_has_another_key(index):
    before = keys_of(Known(COUNTS), index)
    after = keys_of(Known([2, 1, 2]), index)
    assert {view for view in ALL if before[view] != after[view]} == {(2, view) for view in range(8)}


def test_a_damaged_index_is_made_again(index, home, unreadable):
    keys = keys_of(Known(COUNTS), index)
    (home / "embeddings/index.txt").write_bytes(b"\x00damaged" * 99)
    assert keys_of(Known(COUNTS), index) == keys
    unreadable()
    assert keys_of(Known(COUNTS), index) == keys


def test_the_index_is_read_and_written_once(index, monkeypatch):
    calls = []
    for name in ("find", "add"):
        method = getattr(SideIndex, name)
        monkeypatch.setattr(
            SideIndex, name, lambda self, given, name=name, method=method: (calls.append(name), method(self, given))[1]
        )
    keys_of(Known(COUNTS), index)
    assert calls == ["find", "add"]


def test_each_process_looks_at_its_share_and_all_get_all_keys(index, monkeypatch):
    alone = keys_of(Known(COUNTS), SideIndex(index._path.with_name("other.txt")))
    read = []
    get = Blobs.__getitem__
    monkeypatch.setattr(Blobs, "__getitem__", lambda self, index: (read.append(index), get(self, index))[1])
    first, second = Ranks(monkeypatch).run(lambda _: keys_of(Known(COUNTS), index))
    assert first == second == alone
    assert len(read) == len(ALL)


def test_an_image_that_cannot_be_read_is_a_user_s_mistake():
    class Broken(Blobs):
        def __getitem__(self, index):
            raise DataError("image.png cannot be read")

    with pytest.raises(DataError, match=r"image\.png"):
        list(walk(ViewImages(Broken(COUNTS), 64, with_pixels=True), ALL, 2, 0, "test"))


def test_batches_hold_so_many_views_in_order_with_any_number_of_workers():
    images = ViewImages(Blobs(COUNTS), 64, with_pixels=False)
    for workers in (0, 1):
        batches = list(walk(images, ALL[:5], 2, workers, "test"))
        assert [[item.view for item in items] for items in batches] == [ALL[:2], ALL[2:4], ALL[4:5]]


def test_the_log_tells_the_time_left_where_there_is_no_bar(messages, monkeypatch, caplog):
    done = []
    monkeypatch.setattr(views_module.time, "perf_counter", lambda: 40.0 * len(done))
    with caplog.at_level("INFO", "sam_ft"):
        for items in walk(ViewImages(Blobs([2] * 8), 64, with_pixels=True), [(i, 0) for i in range(8)], 2, 0, "test"):
            done += items  # 40 s an image
    for line, facts in zip(caplog.messages, [("25 %", "04:00"), ("50 %", "02:40"), ("75 %", "01:20")], strict=True):
        messages.check(line, "test: ", *facts)
