"""The rounds of an interactive segmentation, in training and in evaluation."""

from itertools import pairwise

import pytest
import torch

from sam_ft.prompts import Box, Clicks, Comparison, InteractiveSession, Point
from sam_ft.prompts.clicks import center_clicks
from sam_ft.task import PromptedSegmentation
from sam_ft.training.step import split_into_passes
from sam_ft.types import Prediction
from tests.support.batches import evaluation, sample, training
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def test_a_session_ends_after_its_rounds():
    given = training(sample("a"))
    assert InteractiveSession(Clicks(rounds=1), given, 0).is_last_round
    session = InteractiveSession(Clicks(rounds=2), given, 0)
    assert not session.is_last_round
    gt = session.gt
    assert session.prompts.points.shape == (3, 1, 2)
    session.step(
        Prediction(torch.zeros(3, 1, 16, 16), torch.zeros(3, 1)),
        Comparison(torch.zeros_like(gt.masks), gt.masks, gt.valid, gt.scale),
    )
    assert session.is_last_round
    assert session.prompts.points.shape == (3, 2, 2)


def decoded_in(prompter, given, task):
    """The prompts of each round of a training step, and whether several candidates were decoded."""
    found, decode = [], task.model.decode

    def noting(features, prompts, image_index, multimask=False):
        found.append((prompts, multimask))
        return decode(features, prompts, image_index, multimask)

    task.model.decode = noting
    for arguments in split_into_passes(task, given, prompter, 0).decoder:
        task(arguments)
    return found


def test_each_round_adds_the_last_logits_and_only_a_single_point_has_three_candidates():
    task = PromptedSegmentation(tiny_sam(), lambda prediction, masks, valid: {"loss": prediction.pred_iou.mean(1)})
    encoded = []
    task.model.image_encoder.register_forward_hook(lambda *_: encoded.append(1))
    given = training(Blobs([3])[0])
    found = decoded_in(Clicks(Point(), rounds=6, mask_only_rounds=2, sampling="uniform"), given, task)
    assert [multimask for _, multimask in found] == [True] + [False] * 5
    counts = [prompts.points.shape[1] for prompts, _ in found]
    assert (counts[0], counts[-1]) == (1, 4)
    assert sum(after == before for before, after in pairwise(counts)) == 2
    assert counts[-1] == counts[-2]
    assert found[0][0].masks is None
    assert all(prompts.masks.shape == (3, 1, 16, 16) for prompts, _ in found[1:])
    assert not any(prompts.masks.requires_grad for prompts, _ in found[1:])
    assert len(encoded) == 1


def test_the_gradient_flows_through_the_rounds_without_detach_alone():
    def gradient(detach):
        model = tiny_sam()
        model.image_encoder.requires_grad_(False)
        task = PromptedSegmentation(model, lambda prediction, masks, valid: {"loss": prediction.logits.mean((1, 2, 3))})
        clicks = Clicks(Box(), rounds=2, sampling="uniform", detach=detach)
        for arguments in split_into_passes(task, training(Blobs([3])[0]), clicks, 0).decoder:
            task(arguments)["loss"].sum().backward()
        return model.mask_decoder.iou_token.weight.grad

    assert not torch.allclose(gradient(True), gradient(False))


def test_an_evaluation_clicks_at_the_center_of_the_largest_error_of_each_mask():
    """The rounds of an evaluation, by hand."""
    model = tiny_sam()
    task = PromptedSegmentation(model)
    given = evaluation(Blobs([4])[0])
    (predicted,) = task.predict(given, Clicks(rounds=3))
    assert predicted.click_ious.shape == (4, 3)
    features, prompts = task.encode(given), Point(sampling="center")(given, 0)
    gt, size, (height, width) = given.originals[0].masks, given.originals[0].size, given.sizes[0]
    everywhere = torch.ones_like(gt)
    for turn in range(3):
        prediction = model.decode(features, prompts, given.image_index, multimask=turn == 0).best()
        masks = model.postprocess(prediction.logits, (height, width), size)[:, 0] > 0
        iou = (masks & gt).sum((1, 2)) / (masks | gt).sum((1, 2))
        assert predicted.click_ious[:, turn].tolist() == pytest.approx(iou.tolist(), abs=1e-6)
        pixels, labels = center_clicks(Comparison(masks, gt, everywhere, (1, 1)))
        points = pixels * torch.tensor([width / size[1], height / size[0]])
        prompts.points = torch.cat([prompts.points, points[:, None]], 1)
        prompts.point_labels = torch.cat([prompts.point_labels, labels[:, None]], 1)
        prompts.masks = prediction.logits
    assert torch.equal(predicted.masks, masks)
