"""Scores of what is found without prompts: by a head as predict.py finds it, and without learning."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.datasets import Samples, Split
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.map_targets import channel_map
from sam_ft.data.sources.run_lengths import RunLengthMasks, compress_ids
from sam_ft.evaluation.classes import ClassScores, segment_classes
from sam_ft.evaluation.instances import InstanceScores, compress_gt
from sam_ft.evaluation.segment import SegmentOptions, segment_image
from sam_ft.instances.otsu import OtsuOptions, segment_otsu
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Sample
from sam_ft.utils import distributed

Find = Callable[[Sample], tuple[RunLengthMasks, Tensor]]  # N masks that do not overlap, and their scores (N,)


def evaluate_head(task: PromptedSegmentation, split: Samples, options: SegmentOptions) -> dict[str, float]:
    """Scores of what the head of the task's model finds, see `score_instances`.

    Features are not rounded as in a cache, so the masks are those of predict.py.
    """
    task = PromptedSegmentation(task.model, precision=task.precision)

    def find(sample: Sample) -> tuple[RunLengthMasks, Tensor]:
        return segment_image(task, ArrayWindows(pixels(sample)), options)

    return score_instances(split, find, "head")


def evaluate_otsu(split: Split) -> dict[str, float]:
    """Scores of `segment_otsu`, the baseline of a head, see `score_instances`."""

    def find(sample: Sample) -> tuple[RunLengthMasks, Tensor]:
        found = compress_ids(segment_otsu(pixels(sample), OtsuOptions()))
        return found, torch.ones(len(found))

    return score_instances(split, find, "Otsu + watershed")


def evaluate_classes(task: PromptedSegmentation, split: Split, tile: int | None = None) -> dict[str, float]:
    """Scores of the class maps that predict.py finds with a semantic head: see `ClassScores.compute`."""
    head = task.model.head
    assert isinstance(head, SemanticHead)
    task = PromptedSegmentation(task.model, precision=task.precision)  # as above
    channels = {label: channel for channel, label in enumerate(head.classes, 1)}
    scores = ClassScores(head.channel_names)
    for sample in own_samples(split, "head"):
        masks, _, labels = segment_classes(task, ArrayWindows(pixels(sample)), tile)
        predicted = np.zeros(sample.size, np.int32)
        for position, label in enumerate(labels.tolist()):
            x0, y0, mask = masks.crop(position)
            predicted[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = channels[label]
        gt = channel_map(sample.masks, sample.labels, sample.size, head.labels)
        scores.add(predicted, gt, sample.ignore)
    return scores.compute()


def evaluate_majority(head: SemanticHead, split: Split, majority: int) -> dict[str, float]:
    """Scores of the same channel at every pixel, the baseline of a semantic head. majority: of `majority_channel`"""
    scores = ClassScores(head.channel_names)
    for index in range(distributed.rank(), len(split), distributed.world_size()):
        sample = split.annotations(index)
        gt = channel_map(sample.masks, sample.labels, sample.size, head.labels)
        scores.add(np.full(sample.size, majority), gt, sample.ignore)
    return scores.compute()


def majority_channel(head: SemanticHead, split: Split, images: Sequence[int]) -> int:
    """The channel of most pixels of some images, over all processes; of equal ones the first."""
    counts = np.zeros(len(head.channel_names), np.int64)
    for index in images[distributed.rank() :: distributed.world_size()]:
        sample = split.annotations(index)
        gt = channel_map(sample.masks, sample.labels, sample.size, head.labels)
        counted = gt >= 0 if sample.ignore is None else (gt >= 0) & ~sample.ignore.numpy()
        counts += np.bincount(gt[counted], minlength=len(counts))
    return int(np.argmax(distributed.sum_over_ranks(counts.tolist())))


def score_instances(split: Samples, find: Find, title: str) -> dict[str, float]:
    """Scores the instances found in the images of a split, over all processes: see `InstanceScores.compute`."""
    scores = InstanceScores()
    for sample in own_samples(split, title):
        masks, own = find(sample)
        scores.add(sample.name, masks.rles(), own, compress_gt(sample.masks, sample.size), sample.ignore)
    return scores.compute()


def own_samples(split: Samples, title: str) -> Iterator[Sample]:
    """The samples of this process, behind a progress bar."""
    share = range(len(split))[distributed.rank() :: distributed.world_size()]
    for index in tqdm(share, title, leave=False, disable=None if distributed.is_main() else True):
        yield split[index]


def pixels(sample: Sample) -> NDArray[np.uint8]:
    """(H, W, 3)"""
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
