"""Classes of pixels by a semantic head: the objects of an image of any size, and scores of class maps."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.windows import Windows
from sam_ft.data.map_targets import channel_map
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.evaluation.instances import predict_maps
from sam_ft.evaluation.segment import image_extremes, map_bands
from sam_ft.evaluation.tiled_maps import maps_to_original
from sam_ft.instances.class_bands import segment_class_bands
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, Size
from sam_ft.utils import distributed
from sam_ft.utils.tiles import TileGrid

CHANNELS = 8  # resized at a time: the probabilities of a hundred classes would fill the memory


def segment_classes(
    task: PromptedSegmentation, image: Windows, tile: int | None
) -> tuple[RunLengthMasks, Tensor, Tensor]:
    """The objects of a semantic head in an image: N masks that do not overlap, scores (N,) float32, labels (N,) int64.

    A score is the mean probability of the class over the object. Objects are in order of their classes.

    tile: see `SegmentOptions`; memory depends on the tile and the width of the image, and on the largest object
    """
    head = task.model.head
    assert isinstance(head, SemanticHead)
    grid = TileGrid(image.size, tile or max(image.size))
    bands = map_bands(task, image, grid, image_extremes(task, image, grid))
    # As run lengths: one mask is in memory at a time.
    found = sorted(
        (channel, one.order, encode_crop(one.x0, one.y0, one.mask, image.size), one.foreground)
        for channel, one in segment_class_bands(bands, head.components, head.min_area)
    )
    labels = list(head.classes)
    return (
        RunLengthMasks([counts for _, _, counts, _ in found], image.size),
        torch.tensor([score for *_, score in found], dtype=torch.float32),
        torch.tensor([labels[channel - 1] for channel, *_ in found], dtype=torch.int64),
    )


class ClassScores:
    """IoU and Dice of each class over all pixels of a split, and their means over the classes that it has.

    IoU = TP / (TP + FP + FN) and Dice = 2 TP / (2 TP + FP + FN), of sums over all images. The background is a class, as
    in Pascal VOC. Call `add` once per image, then `compute` on all processes together.

    names: of the channels, background first
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._counts = np.zeros((3, len(names)), np.int64)  # pixels: TP, predicted, gt

    def add(self, predicted: NDArray[np.integer], gt: NDArray[np.integer], ignore: Tensor | None = None) -> None:
        """predicted, gt: (H, W) channels; -1 in gt does not count · ignore: (H, W) bool, pixels that do not either"""
        counted = gt >= 0 if ignore is None else (gt >= 0) & ~ignore.cpu().numpy()
        theirs, ours = gt[counted], predicted[counted]
        for row, values in zip(self._counts, (theirs[theirs == ours], ours, theirs), strict=True):
            row += np.bincount(values, minlength=len(self.names))

    def compute(self) -> dict[str, float]:
        """{"miou", "mdice", "class_iou/NAME", "class_dice/NAME"} over all processes, without classes that gt lacks."""
        sums = np.array(distributed.sum_over_ranks(self._counts.ravel().tolist())).reshape(3, -1)
        present = {name: column for name, column in zip(self.names, sums.T, strict=True) if column[2]}
        ious = {name: float(tp / (predicted + gt - tp)) for name, (tp, predicted, gt) in present.items()}
        dices = {name: float(2 * tp / (predicted + gt)) for name, (tp, predicted, gt) in present.items()}
        scores = {"miou": _mean_of(ious), "mdice": _mean_of(dices)}
        scores |= {f"class_iou/{name}": value for name, value in ious.items()}
        return scores | {f"class_dice/{name}": value for name, value in dices.items()}


class SemanticScorer:
    """Scores the class maps of a semantic head.

    Call `update` for each batch of an evaluation, then `compute` on all processes together.
    """

    monitors = ("miou", "mdice")  # where higher is better

    def __init__(self, head: SemanticHead) -> None:
        self.head = head
        self.reset()

    def reset(self) -> None:
        self._scores = ClassScores(self.head.channel_names)

    def update(self, task: PromptedSegmentation, features: Features, batch: Batch) -> None:
        """Adds the images of a batch with its originals. features: of `task.encode`"""
        maps = predict_maps(task, features, batch)
        for index, (own, input_size) in enumerate(zip(maps, batch.sizes, strict=True)):
            original = batch.originals[index].to("cpu")
            labels = batch.labels[batch.objects_of(index)]
            gt = channel_map(original.masks, labels, original.size, self.head.labels, original.elsewhere)
            predicted = most_likely(own, task.model.image_size, input_size, original.size)
            self._scores.add(predicted.numpy(), gt, original.ignore)

    def compute(self) -> dict[str, float]:
        """See `ClassScores.compute`."""
        return self._scores.compute()


def most_likely(maps: Tensor, side: int, input_size: Size, size: Size) -> Tensor:
    """The channel of the highest probability at each pixel of the original frame.

    maps: (C, m, m) over the padded input, see `maps_to_original` → (*size) int64
    """
    highest, found = torch.full(size, -1.0), torch.zeros(size, dtype=torch.int64)
    for first in range(0, len(maps), CHANNELS):
        values, places = maps_to_original(maps[first : first + CHANNELS], side, input_size, size).max(dim=0)
        better = values > highest  # of equal ones the first, as argmax does
        found[better] = places[better] + first
        highest = torch.maximum(highest, values)
    return found


def _mean_of(values: dict[str, float]) -> float:
    return sum(values.values()) / len(values) if values else float("nan")
