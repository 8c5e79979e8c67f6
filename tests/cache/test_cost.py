import pytest
import torch
from torchvision.transforms import v2

from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.cache import cost as module
from sam_ft.cache.cost import EncodingCost
from sam_ft.data.datasets import TrainingSet
from sam_ft.data.transforms import Augment
from sam_ft.types import Features
from tests.support.batches import training
from tests.support.blobs import Blobs

COLOR = v2.ColorJitter(brightness=0.2)
PICTURES = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), [(64, 64)] * 2


class Encoder:
    """Encodes an image in 2 s, and the first one in 100."""

    def __init__(self, monkeypatch):
        self.images, self.seconds = 0, 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.seconds)

    def __call__(self, images, sizes):
        self.seconds += 2.0 * len(images) if self.images else 100.0
        self.images += len(images)
        return Features((torch.full((len(images), 2), float(self.images)),))


@pytest.fixture
def encoder(monkeypatch):
    return Encoder(monkeypatch)


@pytest.fixture
def cost(encoder, caplog):
    caplog.set_level("INFO", "sam_ft")

    def make(cache, *transforms):
        return EncodingCost(cache, TrainingSet(Blobs([1]), Augment(list(transforms)), 64, None, 0), encoder, images=50)

    return make


def test_an_augmentation_that_is_not_cacheable_has_a_price(cost, messages, caplog, encoder):
    own = cost(EmbeddingCache(), COLOR, v2.RandomHorizontalFlip())
    own.encode(*PICTURES)
    assert caplog.messages == []
    own.encode(*PICTURES)
    messages.logged(caplog, "ColorJitter", "about 100 s")
    assert "RandomHorizontalFlip" not in caplog.text
    own.encode(*PICTURES)
    assert len(caplog.messages) == 1
    assert encoder.images == 6


def test_training_batches_are_encoded_ahead_until_the_price_is_known(cost, caplog, encoder):
    own = cost(EmbeddingCache(), COLOR)
    one, two = training(*Blobs([1, 1])), training(*Blobs([2]))
    batches = own.encode_batches([training(), one, two, two])
    assert [batch.images is None for batch in batches] == [False, True, True, False]
    assert [batch.features.maps[0][0, 0].item() for batch in batches[1:3]] == [2, 3]
    assert batches[3] is two
    assert own.encode_batches([one]) == [one]
    assert len(caplog.messages) == 1
    assert encoder.images == 3


def test_flips_cost_nothing_in_later_runs(cost, caplog, encoder):
    own = cost(EmbeddingCache(), v2.RandomHorizontalFlip())
    batch = training(*Blobs([1]))
    assert own.encode_batches([batch]) == [batch]
    assert encoder.images == 0
    assert len(own.encode(*PICTURES).maps[0]) == 2
    assert caplog.messages == []


def test_a_run_without_a_cache_is_not_told_its_price(cost, caplog):
    own = cost(no_cache(), COLOR)
    for _ in range(3):
        own.encode(*PICTURES)
    assert caplog.messages == []
