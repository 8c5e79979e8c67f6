import pytest
import torch
from torchvision.transforms import v2

from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.cache import cost as module
from sam_ft.cache.cost import EncodingCost
from sam_ft.data.datasets import TrainingSet
from sam_ft.data.transforms import Augment
from sam_ft.types import Features
from tests.support.blobs import Blobs

COLOR = v2.ColorJitter(brightness=0.2)
PICTURES = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), [(64, 64)] * 2


class Encoder:
    """Encodes an image in 2 s, and the first one in 100."""

    def __init__(self, monkeypatch):
        self.images, self.seconds = 0, 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.seconds)

    def __call__(self, images, sizes, extremes):
        self.seconds += 2.0 * len(images) if self.images else 100.0
        self.images += len(images)
        return Features((torch.full((len(images), 2), float(self.images)),))


@pytest.fixture
def encoder(monkeypatch):
    return Encoder(monkeypatch)


@pytest.fixture
def explain(encoder, caplog):
    """Encodes two images some times, and explains the cost of 50."""
    caplog.set_level("INFO", "sam_ft")

    def make(passes, cache, *transforms):
        cost = EncodingCost(encoder)
        given = [cost.encode(*PICTURES).maps[0][0, 0].item() for _ in range(passes)]
        assert given == [2.0 * (number + 1) for number in range(passes)]
        cost.explain(cache, TrainingSet(Blobs([1]), Augment(list(transforms)), 64, None, 0), images=50)

    return make


def test_an_augmentation_that_is_not_cacheable_has_a_price(explain, messages, caplog):
    explain(3, EmbeddingCache(), COLOR, v2.RandomHorizontalFlip())
    messages.logged(caplog, "ColorJitter", "about 100 s")
    assert "RandomHorizontalFlip" not in caplog.text


def test_a_pass_of_another_number_of_images_is_not_timed(encoder):
    cost = EncodingCost(encoder)
    for images in (2, 1):
        cost.encode(PICTURES[0][:images], PICTURES[1][:images])
    assert cost._seconds is None
    cost.encode(*PICTURES)
    assert cost._seconds == 2.0


@pytest.mark.parametrize("passes", [0, 1])
def test_the_first_pass_is_not_timed(explain, messages, caplog, passes):
    explain(passes, EmbeddingCache(), COLOR)
    messages.logged(caplog, "ColorJitter", "time in every epoch")


def test_flips_cost_nothing_in_later_runs(explain, caplog):
    explain(2, EmbeddingCache(), v2.RandomHorizontalFlip())
    assert caplog.messages == []


def test_a_run_without_a_cache_is_not_told_its_price(explain, caplog):
    explain(2, no_cache(), COLOR)
    assert caplog.messages == []
