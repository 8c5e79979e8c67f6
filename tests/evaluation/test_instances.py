import numpy as np
import pytest
import torch

from sam_ft.data.map_targets import instance_targets
from sam_ft.evaluation import instances
from sam_ft.evaluation.instances import InstanceScorer, object_scores
from sam_ft.instances.watershed import WatershedThresholds
from tests.support.batches import evaluation, sample
from tests.support.masks import square
from tests.support.steps import learning_task

EXACT = WatershedThresholds(smoothing=0.0, min_area=1)


@pytest.fixture
def one():
    image = sample("one", 64, 48, objects=0)
    image.masks = torch.cat([square(20, 20, 5, 5, 64), square(20, 16, 36, 8, 64)])[..., :48]
    image.labels = image.object_index = torch.arange(2)
    return image


def scored(monkeypatch, *samples, move=lambda maps: maps):
    """Scores of a head that predicts the maps of the ground truth."""
    maps = torch.stack([instance_targets(one, 0, 64, 64).nan_to_num() for one in samples])
    monkeypatch.setattr(instances, "predict_maps", lambda *_: move(maps))
    scorer = InstanceScorer(EXACT)
    scorer.update(learning_task(), None, evaluation(*samples))
    return scorer.compute()


def test_perfect_maps_find_all_objects(monkeypatch, one):
    found = scored(monkeypatch, one)
    assert found == {"sa50": 1, "sa75": 1, "msa": pytest.approx(1), "ap": 1, "ap50": 1, "ap75": 1, "masks_per_image": 2}


def test_maps_without_foreground_find_nothing(monkeypatch, one):
    found = scored(monkeypatch, one, move=torch.zeros_like)
    assert (found["sa50"], found["ap50"], found["masks_per_image"]) == (0, 0, 0)


def test_an_ignored_object_is_no_false_positive(monkeypatch, one):
    seen = instance_targets(one, 0, 64, 64).nan_to_num()[None]
    one.ignore = one.masks[1]
    one = one.select(torch.tensor([0]))
    assert scored(monkeypatch, one, move=lambda _: seen)["sa50"] == 1
    one.ignore = None
    assert scored(monkeypatch, one, move=lambda _: seen)["sa50"] == 1 / 2


def test_the_score_of_an_object_is_its_mean_foreground():
    ids, foreground = np.array([[1, 1, 0], [0, 2, 0]]), np.array([[0.5, 1, 0], [0, 0.25, 0]], np.float32)
    assert object_scores(ids, foreground).tolist() == [0.75, 0.25]
    assert object_scores(0 * ids, foreground).shape == (0,)
