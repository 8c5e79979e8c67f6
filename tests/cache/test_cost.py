import pytest
import torch
from torchvision.transforms import v2

from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.cache import cost as module
from sam_ft.cache.cost import explain_cost
from sam_ft.data.datasets import TrainingSet
from sam_ft.data.transforms import Augment
from sam_ft.types import Features
from tests.support.blobs import Blobs

COLOR = v2.ColorJitter(brightness=0.2)


@pytest.fixture
def encoded(monkeypatch):
    """The images that `explain` encodes, each in 2 s."""
    images = []
    monkeypatch.setattr(module.time, "perf_counter", lambda: 2.0 * len(images))
    return images


@pytest.fixture
def explain(encoded, caplog):
    def encode(images, sizes):
        encoded.extend(zip(images, sizes, strict=True))
        return Features((torch.zeros(1, 2),))

    def call(cache, *transforms):
        with caplog.at_level("INFO", "sam_ft"):
            explain_cost(cache, TrainingSet(Blobs([1]), Augment(list(transforms)), 64, None, 0), encode, images=50)
        return caplog.messages

    return call


def test_an_augmentation_that_is_not_cacheable_has_a_price(explain, messages, caplog, encoded):
    explain(EmbeddingCache(), COLOR, v2.RandomHorizontalFlip())
    messages.logged(caplog, "ColorJitter", "about 100 s")
    assert "RandomHorizontalFlip" not in caplog.text
    assert [(image.shape, size) for image, size in encoded] == [((3, 64, 64), (64, 64))] * 2


def test_flips_cost_nothing_in_later_runs(explain, encoded):
    assert explain(EmbeddingCache(), v2.RandomHorizontalFlip()) == []
    assert encoded == []


def test_a_run_without_a_cache_is_not_told_its_price(explain, encoded):
    assert explain(no_cache(), COLOR) == []
    assert encoded == []
