"""The same three classes as ids, as a palette and as colors: the same objects, losses and scores."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.data.sources.folder import Folder
from sam_ft.evaluation.evaluate import evaluate_prompts
from sam_ft.metrics import SegmentationMetrics
from sam_ft.prompts import Box, Point
from sam_ft.task import PromptedSegmentation
from sam_ft.types import dense
from tests.support.batches import training
from tests.support.blobs import draw
from tests.support.steps import losses_of
from tests.support.tiny import bce_iou, tiny_sam

IDS = {"round": 1, "dark": 2, "small": 3}
COLORS = {"round": [200, 30, 30], "dark": [30, 30, 200], "small": [255, 255, 0]}
VOID = [128, 128, 128]


def write(root, encoding):
    """Two images a split, with classes 1 to 3 (the last one in training only) and a void corner."""
    for split, seeds in (("train", (0, 1)), ("val", (2, 3))):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for seed in seeds:
            image, ids = draw(seed, 5)
            ids = np.where(ids > 0, ids % (3 if split == "train" else 2) + 1, 0).astype(np.uint8)
            ids[-6:, -6:] = 255
            Image.fromarray(image).save(root / split / "images" / f"{seed}.png")
            palette = np.zeros((256, 3), np.uint8)
            palette[[1, 2, 3, 255]] = [*COLORS.values(), VOID]
            mask = Image.fromarray(palette[ids] if encoding == "colors" else ids)
            if encoding == "palette":
                mask.putpalette(palette.tobytes())
            mask.save(root / split / "masks" / f"{seed}.png")
    colors = encoding == "colors"
    classes, void = (COLORS, VOID) if colors else (IDS, 255)
    return Folder(root, objects="classes", classes=classes, ignore_index=void, components_per_class=True, min_area=4)


def outcome(data):
    task = PromptedSegmentation(tiny_sam(), bce_iou())
    train, val = data.split("train"), data.split("val")
    samples = [train[0], train[1]]
    losses = torch.cat([losses_of(task, training(*samples), prompter, seed=0) for prompter in (Box(), Point())])
    loader = evaluation_loader(EvaluationSet(val, 64), 2, workers=0)
    return samples, losses.detach(), evaluate_prompts(task, loader, Box(), SegmentationMetrics(), classes=val.classes)


def test_three_encodings_give_the_same_objects_losses_and_scores(tmp_path):
    ids, palette, colors = (outcome(write(tmp_path / name, name)) for name in ("ids", "palette", "colors"))
    assert [len(sample.masks) for sample in ids[0]] == [5, 5]
    for other in (palette, colors):
        for mine, theirs in zip(ids[0], other[0], strict=True):
            assert torch.equal(dense(mine.masks), dense(theirs.masks))
            assert torch.equal(mine.labels, theirs.labels)
            assert torch.equal(mine.ignore, theirs.ignore)
            assert int(mine.ignore.sum()) == 36
        assert torch.equal(ids[1], other[1])
        assert ids[2] == other[2]
    groups = ids[2].groups["class"]
    assert groups["round"]["objects"] + groups["dark"]["objects"] == 10
    assert groups["small"] == {"objects": 0, "iou": None, "dice": None}  # absent, and not 0
    assert ids[2].scores["iou_per_class"] == pytest.approx((groups["round"]["iou"] + groups["dark"]["iou"]) / 2)


def test_predictions_on_ignored_pixels_change_no_score(tmp_path):
    val = write(tmp_path, "ids").split("val")
    task = PromptedSegmentation(tiny_sam())

    def everywhere(features, prompts, image_index, multimask=False):
        prediction = type(task.model).decode(task.model, features, prompts, image_index, multimask)
        prediction.logits[:] = -1
        prediction.logits[..., -4:] = 1  # the right edge, at whose foot the void corner is
        return prediction

    task.model.decode = everywhere
    scored = evaluate_prompts(
        task, evaluation_loader(EvaluationSet(val, 64), 2, workers=0), Box(), SegmentationMetrics()
    )
    batch = next(iter(evaluation_loader(EvaluationSet(val, 64), 2, workers=0)))
    for predicted in task.predict(batch, Box()):
        original, first = batch.originals[predicted.image], batch.objects_of(predicted.image)[0]
        found, gt = predicted.masks & ~original.ignore, original.masks[predicted.objects - first]
        own = [row["iou"] for row in scored.rows if row["name"] == batch.names[predicted.image]]
        assert own == pytest.approx(((found & gt).sum((1, 2)) / (found | gt).sum((1, 2))).tolist(), abs=1e-6)
        assert not torch.equal(found, predicted.masks)
