"""Scores of the instances that are found without prompts: by a head as predict.py finds them, and without learning."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.datasets import Split
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.sources.run_lengths import RunLengthMasks, compress_ids
from sam_ft.evaluation.instances import InstanceScores, compress_gt
from sam_ft.evaluation.segment import SegmentOptions, segment_image
from sam_ft.instances.otsu import OtsuOptions, segment_otsu
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Sample
from sam_ft.utils import distributed

Find = Callable[[Sample], tuple[RunLengthMasks, Tensor]]  # N masks that do not overlap, and their scores (N,)


def evaluate_head(
    task: PromptedSegmentation,
    split: Split,
    options: SegmentOptions,
    images: Sequence[int] | None = None,
    title: str = "head",
) -> dict[str, float]:
    """Scores of what the head of the task's model finds, see `score_instances`.

    Features are not rounded as in a cache, so the masks are those of predict.py.
    """
    task = PromptedSegmentation(task.model, precision=task.precision)

    def find(sample: Sample) -> tuple[RunLengthMasks, Tensor]:
        return segment_image(task, ArrayWindows(pixels(sample)), options)

    return score_instances(split, find, images, title)


def evaluate_otsu(split: Split, title: str = "Otsu + watershed") -> dict[str, float]:
    """Scores of `segment_otsu`, the baseline of a head, see `score_instances`."""

    def find(sample: Sample) -> tuple[RunLengthMasks, Tensor]:
        found = compress_ids(segment_otsu(pixels(sample), OtsuOptions()))
        return found, torch.ones(len(found))

    return score_instances(split, find, title=title)


def score_instances(split: Split, find: Find, images: Sequence[int] | None = None, title: str = "") -> dict[str, float]:
    """Scores the instances found in the images of a split, over all processes: see `InstanceScores.compute`.

    images: positions; None for all
    """
    images, scores = range(len(split)) if images is None else images, InstanceScores()
    share = images[distributed.rank() :: distributed.world_size()]
    for index in tqdm(share, title, leave=False, disable=None if distributed.is_main() else True):
        sample = split[index]
        masks, own = find(sample)
        scores.add(sample.name, masks.rles(), own, compress_gt(sample.masks, sample.size), sample.ignore)
    return scores.compute()


def pixels(sample: Sample) -> NDArray[np.uint8]:
    """(H, W, 3)"""
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
