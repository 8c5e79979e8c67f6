import pytest
import torch

from sam_ft.data.map_targets import instance_targets
from sam_ft.evaluation import instances, thresholds
from sam_ft.evaluation.thresholds import MAX_IMAGES, choose_images, find_thresholds
from tests.support.batches import evaluation
from tests.support.blobs import Blobs
from tests.support.steps import learning_task


def test_a_search_takes_some_images_always_the_same():
    split = Blobs([1] * 40)
    chosen = choose_images(split, range(1, 40))
    assert len(chosen) == len(set(chosen)) == MAX_IMAGES
    assert chosen == sorted(chosen) == choose_images(split, range(1, 40))
    assert min(chosen) >= 1
    assert choose_images(split, [3, 7]) == [3, 7]


def test_large_images_are_fewer_but_at_least_one(monkeypatch):
    split = Blobs([1] * 5)
    areas = [height * width for height, width in (split[index].size for index in range(5))]
    monkeypatch.setattr(thresholds, "MAX_PIXELS", sum(areas) - 1)
    chosen = choose_images(split, range(5))
    assert sum(areas[index] for index in chosen) < sum(areas)
    monkeypatch.setattr(thresholds, "MAX_PIXELS", 1)
    assert len(choose_images(split, range(5))) == 1


def test_thresholds_suit_the_maps(monkeypatch):
    samples = [Blobs([2, 3])[index] for index in range(2)]
    maps = torch.stack([0.4 * instance_targets(sample, 0, 64, 64).nan_to_num() for sample in samples])
    monkeypatch.setattr(instances, "predict_maps", lambda *_: maps)
    found, score = find_thresholds(learning_task(), [evaluation(*samples)])
    assert found.foreground == 0.3
    assert score == pytest.approx(1, abs=0.2)
