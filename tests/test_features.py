import torch

from sam_ft.data.features import FeatureCache
from sam_ft.types import Features
from tests.test_invariants import batch_of, trainable


class Encoder:
    """Counts what it is asked for; the embedding of an image is its mean."""

    def __init__(self):
        self.images = 0

    def __call__(self, images, sizes):
        assert len(images) == len(sizes)
        self.images += len(images)
        return Features(images.float().mean(dim=(1, 2, 3)).reshape(-1, 1, 1, 1).repeat(1, 256, 2, 2))


def test_an_image_is_encoded_once_and_in_its_place():
    cache, encoder = FeatureCache(), Encoder()
    first = cache.encode(batch_of([0, 1]), encoder).embedding
    again = cache.encode(batch_of([1, 2, 0]), encoder).embedding
    assert encoder.images == 3
    torch.testing.assert_close(again[[2, 0]], first)


def test_the_oldest_leave_when_memory_is_full():
    cache, encoder = FeatureCache(max_gb=2 * 256 * 4 * 4 / 1e9), Encoder()
    for index in (0, 1, 0, 2):
        cache.encode(batch_of([index]), encoder)
    assert encoder.images == 3
    cache.encode(batch_of([0]), encoder)
    assert encoder.images == 3
    cache.encode(batch_of([1]), encoder)
    assert encoder.images == 4


def test_no_memory_means_no_cache():
    cache, encoder = FeatureCache(max_gb=0), Encoder()
    for _ in range(2):
        cache.encode(batch_of([0, 1]), encoder)
    assert encoder.images == 4


def test_a_batch_of_no_images_has_features_of_no_images():
    task = trainable()
    task._cache = FeatureCache()
    assert task.encode(batch_of([])).embedding.shape == (0, 256, 4, 4)


def test_cached_equals_fresh():
    task = trainable()
    fresh = task.encode(batch_of([0, 1])).embedding
    task._cache = FeatureCache()
    for _ in range(2):
        assert torch.equal(task.encode(batch_of([0, 1])).embedding, fresh)
