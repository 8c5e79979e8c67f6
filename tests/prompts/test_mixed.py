import pytest
import torch

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.evaluation.evaluate import evaluate_prompts
from sam_ft.metrics import SegmentationMetrics
from sam_ft.prompts import Box, Clicks, Iterative, Mixed, Point
from sam_ft.task import PromptedSegmentation
from tests.support.batches import sample
from tests.support.batches import training as batch
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def many():
    return batch(*[sample(str(index), objects=8) for index in range(50)])


def test_objects_are_split_in_proportion_to_the_weights_and_each_once():
    box, point = Box(), Point()
    groups = Mixed([box, point], [3, 1]).split(many(), 0)
    assert [who for who, _ in groups] == [box, point]
    assert len(groups[0][1]) / 400 == pytest.approx(0.75, abs=0.06)
    assert torch.cat([part for _, part in groups]).sort().values.tolist() == list(range(400))
    assert all((part.diff() > 0).all() for _, part in groups)


def test_the_prompter_of_an_object_depends_on_seed_name_and_object_index_alone():
    mixed = Mixed([Box(), Point()], [1, 1])
    a, b = sample("a", objects=30), sample("b", objects=30)
    together = mixed.split(batch(a, b), 5)[0][1]
    assert torch.equal(mixed.split(batch(b), 5)[0][1], together[together >= 30] - 30)
    assert not torch.equal(mixed.split(batch(a, b), 6)[0][1], together)


def test_per_batch_all_objects_have_one_prompter_and_seeds_differ():
    mixed = Mixed([Box(), Point()], [1, 1], per="batch")
    groups = [mixed.split(many(), seed) for seed in range(40)]
    assert all(len(group) == 1 and len(group[0][1]) == 400 for group in groups)
    assert 10 < sum(isinstance(group[0][0], Box) for group in groups) < 30


def test_a_mixture_may_hold_mixtures():
    inner = Mixed([Box(), Point()], [1, 1])
    groups = Mixed([inner, Point(3)], [1, 1]).split(many(), 0)
    assert torch.cat([part for _, part in groups]).sort().values.tolist() == list(range(400))
    # a half of a half: the inner draw must not follow the outer one
    assert [len(part) / 400 for _, part in groups] == pytest.approx([0.25, 0.25, 0.5], abs=0.08)


def test_a_prompter_of_weight_zero_is_never_drawn():
    given = batch(sample("a"))
    boxes, points = (list(Iterative(point_probability=p).examples(given)) for p in (0, 1))
    assert all(prompts.boxes is not None for prompts in boxes)
    assert all(prompts.boxes is None for prompts in points)
    assert [prompts.ambiguous for prompts in points].count(True) == 1
    assert all(len(groups) == 1 for groups in (Iterative(point_probability=p).split(many(), 0) for p in (0, 1)))


def test_examples_are_those_of_all_prompters():
    given = batch(sample("a"))
    mixed = Mixed([Box(), Mixed([Point(), Point(1, 1)], [1, 1])], [1, 1])
    assert [(p.boxes is not None, p.points is not None) for p in mixed.examples(given)] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_a_batch_without_objects_is_one_empty_group():
    ((who, objects),) = Mixed([Box(), Point()], [1, 1]).split(batch(sample("a", objects=0)), 0)
    assert (type(who), len(objects)) == (Box, 0)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0]])
def test_weights_that_do_not_fit_are_refused(messages, weights):
    with messages.raises(ValueError, "weights="):
        Mixed([Box(), Point()], weights)


def test_images_whose_objects_all_have_one_round_are_scored_among_others_with_more():
    blobs = Blobs([1, 2, 1, 3])
    mixed = Mixed([Box(), Clicks(rounds=3)], [1, 1])
    for eval_batch_size in (1, 4):
        loader = evaluation_loader(EvaluationSet(blobs, 64), eval_batch_size, workers=0)
        rows = evaluate_prompts(PromptedSegmentation(tiny_sam()), loader, mixed, SegmentationMetrics()).rows
        assert len(rows) == 7
        assert all(row["iou_click_3"] == row["iou"] for row in rows)
        boxes = [row for row in rows if row["iou_click_1"] == row["iou_click_2"] == row["iou"]]
        assert 1 <= len(boxes) <= 6
        assert any(row["iou"] > 0 for row in boxes)
