"""Pictures of a few validation images before and after training."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from sam_ft import distributed
from sam_ft.data.loader import EvaluationSet
from sam_ft.report.pictures import save_sheet, with_boxes, with_masks
from sam_ft.task import PredictedImage, PromptedSegmentation, Prompter
from sam_ft.types import collate


class SamplePictures:
    """samples/*.png of a run: prompt | truth | zero-shot | tuned, for the first images with objects.

    Only the main process draws; the others do not wait for it until they next meet.
    """

    def __init__(self, directory: Path, dataset: EvaluationSet, count: int, prompter: Prompter, chunk: int):
        self._folder = directory / "samples"
        self._dataset = dataset
        self._images = range(min(count, len(dataset.split)) if distributed.is_main() else 0)
        self._prompter = prompter
        self._chunk = chunk
        self._zero_shot: dict[int, PredictedImage] = {}

    def draw_zero_shot(self, task: PromptedSegmentation) -> None:
        """Remembers what the model answers before training."""
        self._zero_shot = dict(self._predict(task))

    def draw(self, task: PromptedSegmentation, epoch: int) -> Iterator[Path]:
        """Writes samples/epoch_NNN.png with the model's answers now, beside those before training."""
        rows = []
        for index, tuned in self._predict(task):
            sample = self._dataset.split[index]
            before = self._zero_shot[index]
            boxes = torch.zeros(0, 4) if tuned.boxes is None else tuned.boxes.cpu()
            rows.append(
                [
                    (f"{sample.name}: prompt", with_boxes(sample.image, boxes)),
                    ("truth", with_masks(sample.image, sample.masks)),
                    (
                        f"zero-shot, IoU {_mean_iou(before.masks, sample.masks):.3f}",
                        _answer(sample.image, before),
                    ),
                    (
                        f"epoch {epoch}, IoU {_mean_iou(tuned.masks, sample.masks):.3f}",
                        _answer(sample.image, tuned),
                    ),
                ]
            )
        if rows:
            path = self._folder / f"epoch_{epoch:03d}.png"
            save_sheet(path, rows)
            yield path

    def _predict(self, task: PromptedSegmentation) -> Iterator[tuple[int, PredictedImage]]:
        for index in self._images:
            batch = collate([self._dataset[index]], self._dataset.resize.side).to(task.model.device)
            for predicted in task.predict(batch, self._prompter, self._chunk):
                yield index, predicted._replace(masks=predicted.masks.cpu())


def _answer(image: Tensor, predicted: PredictedImage) -> Tensor:
    return with_masks(image, predicted.masks)


def _mean_iou(predicted: Tensor, true: Tensor) -> float:
    overlap, union = (predicted & true).flatten(1).sum(1), (predicted | true).flatten(1).sum(1)
    return float((overlap / union).to(torch.float64).mean())
