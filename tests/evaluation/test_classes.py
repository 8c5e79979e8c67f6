from math import isnan

import numpy as np
import pytest
import torch

from sam_ft.data.io.windows import ArrayWindows
from sam_ft.evaluation import classes
from sam_ft.evaluation.classes import ClassScores, SemanticScorer, most_likely, segment_classes
from sam_ft.evaluation.evaluate import head_scorer
from sam_ft.evaluation.tiled_maps import maps_to_original
from sam_ft.evaluation.without_prompts import evaluate_classes, evaluate_majority, majority_channel
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import dense
from tests.evaluation.test_tiled_maps import smooth_image
from tests.support.batches import evaluation, sample
from tests.support.blobs import Blobs
from tests.support.metric_shares import scored_classes
from tests.support.tiny import tiny_sam, tiny_vit_sam

NAMES = ["background", "a", "b", "c"]


def head_of(known, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = SemanticHead(**options)
        head.set_classes(known)
    return head


def task_of(model, known, **options):
    model.attach_head(head_of(known, **options))
    return PromptedSegmentation(model)


def test_scores_by_hand_are_of_sums_over_images():
    scores = ClassScores(NAMES)
    scores.add(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]]))
    scores.add(np.array([[1, 1, 0]]), np.array([[1, 0, 0]]))
    found = scores.compute()
    # background: 2 of gt {1 + 2}, 2 predicted · a: 2 of gt {1 + 1}, 4 predicted · b: 1 of gt 2, 1 predicted
    ious, dices = {"background": 2 / 3, "a": 2 / 4, "b": 1 / 2}, {"background": 4 / 5, "a": 4 / 6, "b": 2 / 3}
    assert {name: found[f"class_iou/{name}"] for name in ious} == pytest.approx(ious)
    assert {name: found[f"class_dice/{name}"] for name in dices} == pytest.approx(dices)
    assert found["miou"] == pytest.approx(sum(ious.values()) / 3)
    assert found["mdice"] == pytest.approx(sum(dices.values()) / 3)
    assert len(found) == 8  # c is absent


def test_pixels_that_do_not_count_change_nothing():
    scores = ClassScores(NAMES)
    ignore = torch.tensor([[False, False, True, False]])
    scores.add(np.array([[0, 1, 3, 2]]), np.array([[0, 1, 1, -1]]), ignore)
    assert scores.compute() == {
        **{"miou": 1, "mdice": 1, "class_iou/background": 1, "class_iou/a": 1},
        **{"class_dice/background": 1, "class_dice/a": 1},
    }


def test_a_class_that_the_images_lack_counts_only_as_false_positives():
    scores = ClassScores(NAMES)
    scores.add(np.array([[3, 3, 1, 1]]), np.array([[0, 0, 1, 1]]))
    found = scores.compute()
    assert found["class_iou/background"] == 0
    assert found["miou"] == 1 / 2


@pytest.mark.slow
def test_two_processes_score_as_one(two_processes):
    alone = scored_classes()
    assert 0 < alone["miou"] < 1
    assert all(result == alone for result in two_processes("classes"))


def test_no_images_have_no_score():
    found = ClassScores(NAMES).compute()
    assert found.keys() == {"miou", "mdice"}
    assert all(map(isnan, found.values()))


@pytest.mark.parametrize("number", [3, 20])
def test_the_most_likely_channel_is_that_of_all_maps_resized(number):
    maps = torch.rand(number, 16, 16, generator=torch.Generator().manual_seed(0))
    maps[2] = maps[1]
    expected = maps_to_original(maps, 64, (64, 48), (40, 30)).argmax(dim=0)
    assert torch.equal(most_likely(maps, 64, (64, 48), (40, 30)), expected)


def test_a_scorer_compares_with_the_classes_of_the_objects(monkeypatch):
    one = sample("one", 64, 48, objects=2)
    one.labels = torch.tensor([7, 3])
    head = head_of({3: "three", 7: "seven"})
    gt = torch.zeros(64, 64, dtype=torch.int64)
    gt[:64, :48][one.masks[1]] = 1
    gt[:64, :48][one.masks[0]] = 2  # the smaller one
    maps = torch.nn.functional.one_hot(gt, 3).movedim(-1, 0)[None].float()
    monkeypatch.setattr(classes, "predict_maps", lambda *_: maps)
    scorer = head_scorer(head)
    assert isinstance(scorer, SemanticScorer)
    task = PromptedSegmentation(tiny_sam())
    scorer.update(task, None, evaluation(one))
    found = scorer.compute()
    assert (found["miou"], found["class_iou/three"], found["class_iou/seven"]) == (1, 1, 1)
    one.labels = one.labels.flip(0)
    scorer.reset()
    scorer.update(task, None, evaluation(one))
    assert scorer.compute()["class_iou/background"] == 1
    assert scorer.compute()["class_iou/seven"] == 0


@pytest.mark.parametrize("build", [tiny_sam, tiny_vit_sam])
@pytest.mark.parametrize("tile", [None, 64])
def test_objects_cover_the_pixels_of_their_class_once(build, tile):
    task, image = task_of(build(), {1: "a", 5: "b", 9: "c"}), ArrayWindows(smooth_image(150, 110))
    masks, scores, labels = segment_classes(task, image, tile)
    assert set(labels.tolist()) <= {1, 5, 9}
    assert len(masks) == len(scores) == len(labels) > 0
    assert dense(masks).sum(0).max() == 1
    assert ((scores > 0.25) & (scores < 1)).all()  # the highest of four probabilities
    task.model.head.components = False
    whole, _, own = segment_classes(task, image, tile)
    assert own.tolist() == sorted(set(labels.tolist()))
    for label, mask in zip(own, dense(whole), strict=True):
        assert torch.equal(mask, dense(masks)[labels == label].any(0))


def test_the_scores_of_predicted_masks_are_those_of_the_maps():
    task = task_of(tiny_sam(), {})
    split = Blobs([2, 3])
    found = evaluate_classes(task, split)
    scorer = head_scorer(task.model.head)
    for one in split:
        batch = evaluation(one)
        scorer.update(task, task.encode(batch), batch)
    assert found == pytest.approx(scorer.compute())
    assert 0 < found["miou"] < 1


def test_the_baseline_has_the_class_of_most_pixels():
    head, split = head_of({}), Blobs([2, 3])
    area = sum(int(one.masks.sum()) for one in split)
    total = sum(one.size[0] * one.size[1] for one in split)
    assert majority_channel(head, split, [0, 1]) == 0
    found = evaluate_majority(head, split, 0)
    assert found["class_iou/background"] == pytest.approx(1 - area / total)
    assert found["class_iou/object"] == 0
    assert evaluate_majority(head, split, 1)["class_iou/object"] == area / total
    assert majority_channel(head_of({1: "cell"}), Full(), [0]) == 1


class Full(Blobs):
    """An image that an object fills, but for pixels to ignore."""

    def __init__(self):
        super().__init__([1])

    def __getitem__(self, index):
        one = super().__getitem__(index)
        one.masks = ~one.masks
        one.ignore = ~one.masks[0]
        return one
