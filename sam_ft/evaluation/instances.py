"""Scores of the instances that a head finds in whole images, without prompts."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sam_ft.data.sources.run_lengths import RunLengthMasks, compress_ids
from sam_ft.evaluation.tiled_maps import maps_to_original
from sam_ft.instances.watershed import WatershedThresholds, segment_maps
from sam_ft.metrics.average_precision import AveragePrecision, encode_masks
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, Masks, Size, dense_parts


class ImageMaps(NamedTuple):
    """The maps of a head for one image, in its original frame, beside the ground truth.

    name: unique · maps: (3, H, W) from 0 to 1 · gt: M objects as COCO's run lengths · ignore: (H, W) bool
    """

    name: str
    maps: NDArray[np.float32]
    gt: list[dict]
    ignore: Tensor | None


class InstanceScores:
    """Segmentation accuracy and average precision of instances.

    Call `add` once per image, then `compute` on all processes together.
    """

    def __init__(self) -> None:
        self._accuracy, self._precision = SegmentationAccuracy(), AveragePrecision()

    def add(self, name: str, found: list[dict], scores: Tensor, gt: list[dict], ignore: Tensor | None = None) -> None:
        """found: N masks with their scores (N,), which rank them · gt: M masks, see `SegmentationAccuracy.update`"""
        self._accuracy.update(name, found, gt, ignore)
        self._precision.update(name, found, scores, gt, ignore)

    def compute(self) -> dict[str, float]:
        """{"sa50", "sa75", "msa", "ap", "ap50", "ap75", "masks_per_image"} over all processes."""
        return {**self._accuracy.compute(), **self._precision.compute()}


class InstanceScorer:
    """Scores the objects that a watershed finds in the maps of a head.

    Call `update` for each batch of an evaluation, then `compute` on all processes together.
    """

    monitors = ("sa50", "sa75", "msa", "ap", "ap50", "ap75")  # where higher is better

    def __init__(self, thresholds: WatershedThresholds) -> None:
        self.thresholds = thresholds
        self.reset()

    def reset(self) -> None:
        self._scores = InstanceScores()

    def update(self, task: PromptedSegmentation, features: Features, batch: Batch) -> None:
        """Adds the images of a batch with its originals. features: of `task.encode`"""
        for image in maps_of_images(task, features, batch):
            masks, scores = find_instances(image.maps, self.thresholds)
            self._scores.add(image.name, masks.rles(), scores, image.gt, image.ignore)

    def compute(self) -> dict[str, float]:
        """See `InstanceScores.compute`."""
        return self._scores.compute()


def maps_of_images(task: PromptedSegmentation, features: Features, batch: Batch) -> Iterator[ImageMaps]:
    """The maps of a batch with its originals, image by image. features: of `task.encode`"""
    maps = predict_maps(task, features, batch)
    for own, name, input_size, original in zip(maps, batch.names, batch.sizes, batch.originals, strict=True):
        whole = maps_to_original(own, task.model.image_size, input_size, original.size).numpy()
        yield ImageMaps(name, whole, compress_gt(original.masks, original.size), original.uncounted)


def compress_gt(masks: Masks, size: Size) -> list[dict]:
    """The objects of an image as COCO's run lengths; a few of them are dense at a time."""
    return [rle for part in dense_parts(masks, size) for rle in encode_masks(part)]


@torch.no_grad()
def predict_maps(task: PromptedSegmentation, features: Features, batch: Batch) -> Tensor:
    """The maps of the head over the padded input, from 0 to 1: (B, C, 4s, 4s) on the CPU."""
    head = task.model.head
    assert head is not None
    assert batch.images is not None
    with task.autocast():
        logits = head(features.embedding, batch.images)
    return head.probabilities(logits.float()).cpu()


def find_instances(maps: NDArray[np.float32], thresholds: WatershedThresholds) -> tuple[RunLengthMasks, Tensor]:
    """The objects in the maps of a whole image, and their scores.

    maps: (3, H, W) from 0 to 1 → n masks that do not overlap, (n,) float32
    """
    ids = segment_maps(maps, thresholds)
    return compress_ids(ids), object_scores(ids, maps[0])


def object_scores(ids: NDArray[np.int32], foreground: NDArray[np.float32]) -> Tensor:
    """(n,) the mean of the foreground map over each object of an id map (H, W)."""
    numbers = np.arange(1, int(ids.max(initial=0)) + 1)
    return torch.as_tensor(np.asarray(ndimage.mean(foreground, ids, numbers)), dtype=torch.float32)
