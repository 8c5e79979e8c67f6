"""Scores of the instances that a head finds in whole images, without prompts."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.evaluation.tiled_maps import maps_to_original
from sam_ft.instances.watershed import WatershedThresholds, segment_maps
from sam_ft.metrics.average_precision import AveragePrecision, encode_masks
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, dense_parts


class InstanceScorer:
    """Segmentation accuracy and average precision of the objects that a watershed finds in the maps of a head.

    Call `update` for each batch of an evaluation, then `compute` on all processes together.
    """

    def __init__(self, thresholds: WatershedThresholds) -> None:
        self.thresholds = thresholds
        self.reset()

    def reset(self) -> None:
        self._accuracy, self._precision = SegmentationAccuracy(), AveragePrecision()

    def update(self, task: PromptedSegmentation, features: Features, batch: Batch) -> None:
        """Adds the images of a batch with its originals. features: of `task.encode`"""
        maps = predict_maps(task, features, batch)
        for own, name, input_size, original in zip(maps, batch.names, batch.sizes, batch.originals, strict=True):
            whole = maps_to_original(own, task.model.image_size, input_size, original.size).numpy()
            ids = segment_maps(whole, self.thresholds)
            found, scores = compress_ids(ids).rles(), object_scores(ids, whole[0])
            gt = [rle for part in dense_parts(original.masks, original.size) for rle in encode_masks(part)]
            self._accuracy.update(name, found, gt, original.ignore)
            self._precision.update(name, found, scores, gt, original.ignore)

    def compute(self) -> dict[str, float]:
        """{"sa50", "sa75", "msa", "ap50", "ap75", "masks_per_image"} over all processes."""
        return {**self._accuracy.compute(), **self._precision.compute()}


@torch.no_grad()
def predict_maps(task: PromptedSegmentation, features: Features, batch: Batch) -> Tensor:
    """The maps of the head over the padded input, from 0 to 1: (B, C, 4s, 4s) on the CPU."""
    head = task.model.head
    assert head is not None
    assert batch.images is not None
    with task.autocast():
        logits = head(features.embedding, batch.images)
    return logits.float().sigmoid().cpu()


def object_scores(ids: NDArray[np.int32], foreground: NDArray[np.float32]) -> Tensor:
    """(n,) the mean of the foreground map over each object of an id map (H, W)."""
    numbers = np.arange(1, int(ids.max(initial=0)) + 1)
    return torch.as_tensor(np.asarray(ndimage.mean(foreground, ids, numbers)), dtype=torch.float32)
