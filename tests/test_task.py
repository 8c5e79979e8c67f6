"""One path of training and evaluation. tests/training/test_step.py has its losses, test_session.py its rounds."""

from dataclasses import replace

import pytest
import torch

from sam_ft.prompts import Box, Clicks, Mixed, Point
from sam_ft.task import PromptedSegmentation
from sam_ft.utils.errors import ConfigError
from tests.support.batches import evaluation, training
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam

SAMPLES = list(Blobs([3, 0, 4]))


@pytest.fixture(scope="module")
def task():
    return PromptedSegmentation(tiny_sam().requires_grad_(False))


def test_features_of_a_batch_are_those_of_its_images(task):
    together = task.encode(training(*SAMPLES)).embedding
    assert torch.equal(together, torch.cat([task.encode(training(sample)).embedding for sample in SAMPLES]))
    assert task.encode(training()).embedding.shape == (0, 256, 4, 4)


def test_given_features_replace_the_images():
    model, batch = tiny_sam(), training(*SAMPLES)
    for unit in ((), model.image_encoder.units()[2:3]):  # all of the encoder is the prefix, or only a part
        for name, parameter in model.image_encoder.named_parameters():
            parameter.requires_grad = any(own.holds(name) for own in unit)
        task = PromptedSegmentation(model)
        features = task.prefix(batch.images, batch.sizes)
        assert not features.embedding.requires_grad
        cached = replace(batch, images=None, features=features)
        assert torch.equal(task.encode(cached).embedding, task.encode(batch).embedding)
        assert task.encoder_learns is task.encode(cached).embedding.requires_grad is bool(unit)


def test_fresh_features_are_rounded_to_the_format_of_cached_ones(task):
    rounded, batch = PromptedSegmentation(task.model), training(SAMPLES[0])
    rounded.features_dtype = torch.float16
    features = rounded.prefix(batch.images, batch.sizes)
    assert features.embedding.dtype == torch.float16
    assert torch.equal(rounded.encode(batch).embedding, features.embedding.float())
    assert not torch.equal(rounded.encode(batch).embedding, task.encode(batch).embedding)


def test_images_without_objects_are_skipped(task):
    predicted = list(task.predict(evaluation(*SAMPLES), Box()))
    assert [one.image for one in predicted] == [0, 2]
    assert [one.objects.tolist() for one in predicted] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [tuple(one.masks.shape) for one in predicted] == [(3, *SAMPLES[0].size), (4, *SAMPLES[2].size)]
    assert all(torch.equal(one.gt, SAMPLES[one.image].masks) for one in predicted)
    assert all(one.click_ious is None for one in predicted)


@pytest.mark.parametrize(
    "prompter",
    [Point(), Clicks(rounds=2), Mixed([Box(jitter=0.1), Point(2)], [1, 1])],
    ids=["point", "clicks", "mixed"],
)
def test_predictions_depend_neither_on_the_batch_nor_on_the_chunk(task, prompter):
    def by_object(samples, chunk=None):
        """{(name, object index): (mask, pred_iou)}"""
        batch, found = evaluation(*samples), {}
        for one in task.predict(batch, prompter, chunk):
            assert len(one.objects) <= (chunk or task.chunks.predict(batch.originals[one.image].size))
            for place, mask, pred_iou in zip(one.objects.tolist(), one.masks, one.pred_iou, strict=True):
                found[batch.names[one.image], int(batch.object_index[place])] = mask, pred_iou
        return found

    whole = by_object(SAMPLES)
    assert len(whole) == 7
    for found in (by_object(SAMPLES, 1), {**by_object(SAMPLES[:1], 2), **by_object(SAMPLES[2:], 2)}):
        assert found.keys() == whole.keys()
        for key, (mask, pred_iou) in found.items():
            # a pixel whose logit is within rounding of 0 may be on either side of it
            assert (mask != whole[key][0]).sum() <= 1
            torch.testing.assert_close(pred_iou, whole[key][1], rtol=1e-5, atol=1e-5)


def test_prompts_of_a_prediction_are_in_the_original_frame(task):
    sample = SAMPLES[0]
    (predicted,) = task.predict(evaluation(sample, side=64), Box())
    assert predicted.objects.tolist() == [0, 1, 2]
    for box, mask in zip(predicted.prompts.boxes, sample.masks, strict=True):
        y, x = mask.nonzero().T
        expected = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        torch.testing.assert_close(box, expected)


def test_another_precision_is_refused(messages):
    with messages.raises(ConfigError, "precision=float64"):
        PromptedSegmentation(tiny_sam(), precision="float64").encode(training(SAMPLES[0]))
    assert PromptedSegmentation(tiny_sam(), precision="bfloat16").compute_dtype == torch.bfloat16
