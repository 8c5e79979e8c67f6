"""The end of a training with a head: how it is used, by training images, and its scores beside a baseline."""

import logging
from dataclasses import asdict
from typing import Any, NamedTuple

from sam_ft.data.splits import Splits
from sam_ft.evaluation.thresholds import choose_images, find_options
from sam_ft.evaluation.without_prompts import (
    evaluate_classes,
    evaluate_head,
    evaluate_majority,
    evaluate_otsu,
    majority_channel,
)
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation

log = logging.getLogger("sam_ft")


class HeadScores(NamedTuple):
    """notes: entries of the checkpoint's metadata, with which predict.py uses the head

    scores: of whole validation images with these · baseline: of the same images without learning
    """

    notes: dict[str, Any]
    scores: dict[str, float]
    baseline: dict[str, float]


def score_head(task: PromptedSegmentation, splits: Splits, tile: int) -> HeadScores:
    """Chooses by training images how a trained head is used, and scores it on the validation images.

    splits: of whole images · tile: side in pixels, see `SegmentOptions`
    """
    head = task.model.head
    if isinstance(head, SemanticHead):  # nothing to choose, but its baseline
        majority = majority_channel(head, splits.train, splits.train_images)
        baseline = evaluate_majority(head, splits.val, majority)
        return HeadScores({"majority": majority}, evaluate_classes(task, splits.val, tile), baseline)
    images = choose_images(splits.train, splits.train_images)
    options, msa = find_options(task, splits.train, images, tile)
    log.info(
        "thresholds of the head, by %d of %d training images: %s",
        len(images),
        len(splits.train_images),
        ", ".join(f"{name} {value:g}" for name, value in asdict(options.thresholds).items()),
    )
    log.info(
        "mSA there: head alone %.4f, its boxes given to the mask decoder %.4f (%s)",
        msa["head"],
        msa["refined"],
        "used" if options.refine else "not used",
    )
    return HeadScores(asdict(options), evaluate_head(task, splits.val, options), evaluate_otsu(splits.val))
