"""Pictures of a few validation images before and after training."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Prompter
from sam_ft.report.pictures import Panel, draw_masks, draw_prompts, save_sheet, stretch_contrast
from sam_ft.task import PredictedImage, PromptedSegmentation
from sam_ft.types import Sample
from sam_ft.utils import distributed
from sam_ft.utils.cpu_kernels import areas


class SamplePictures:
    """samples/*.png of a run: prompt | ground truth | zero-shot | tuned, for the first `count` images with objects.

    Only the main process draws; the others do not wait for it until they next meet.
    """

    def __init__(
        self,
        directory: Path,
        dataset: EvaluationSet,
        task: PromptedSegmentation,
        count: int,
        prompter: Prompter,
        chunk: int | None,
    ) -> None:
        self._folder = directory / "samples"
        self._dataset = dataset
        self._task = task
        self._count = count if distributed.is_main() else 0
        self._prompter = prompter
        self._chunk = chunk
        self._zero_shot: dict[int, PredictedImage] = {}

    def draw_zero_shot(self) -> None:
        """Writes samples/zero_shot.png, and keeps the predictions before training."""
        self._zero_shot = dict(self._predict(self._choose()))
        shown = ((self._dataset.split[index], before) for index, before in self._zero_shot.items())
        self._save("zero_shot", [_panels(sample, before) for sample, before in shown])

    def draw(self, epoch: int) -> Iterator[Path]:
        """Writes samples/epoch_NNN.png with the present predictions beside those before training."""
        rows = []
        for index, tuned in self._predict(self._zero_shot):
            sample = self._dataset.split[index]
            rows.append([*_panels(sample, self._zero_shot[index]), _panel(f"epoch {epoch}", sample, tuned)])
        yield from self._save(f"epoch_{epoch:03d}", rows)

    def _choose(self) -> Iterator[int]:
        """The first images with objects."""
        walk = range(len(self._dataset.split) if self._count else 0)
        return islice((index for index in walk if len(self._dataset.split.annotations(index).masks)), self._count)

    def _predict(self, images: Iterable[int]) -> Iterator[tuple[int, PredictedImage]]:
        for index in images:
            batch = self._dataset.batch([index]).to(self._task.model.device)
            for predicted in self._task.predict(batch, self._prompter, self._chunk):
                # On the CPU: these predictions stay until the end of the run.
                yield index, predicted._replace(masks=predicted.masks.cpu())

    def _save(self, name: str, rows: Sequence[Sequence[Panel]]) -> list[Path]:
        if not rows:
            return []
        path = self._folder / f"{name}.png"
        save_sheet(path, {"": rows})
        return [path]


def _panels(sample: Sample, before: PredictedImage) -> list[Panel]:
    image = stretch_contrast(sample.image)
    return [
        (f"{sample.name}: prompt", draw_prompts(image, before.prompts)),
        ("ground truth", draw_masks(image, sample.masks)),
        _panel("zero-shot", sample, before),
    ]


def _panel(title: str, sample: Sample, predicted: PredictedImage) -> Panel:
    # Ignored pixels count in no score.
    iou = _mean_iou(predicted.masks if sample.ignore is None else predicted.masks & ~sample.ignore, sample.masks)
    return f"{title}, IoU {iou:.3f}", draw_masks(stretch_contrast(sample.image), predicted.masks)


def _mean_iou(predicted: Tensor, gt: Tensor) -> float:
    return float((areas(predicted & gt) / areas(predicted | gt)).to(torch.float64).mean())
