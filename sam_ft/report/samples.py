"""Pictures of a few validation images before and after training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.transforms import resize_image
from sam_ft.prompts import Prompter, scale_prompts
from sam_ft.report.names import shorten
from sam_ft.report.pictures import Panel, draw_prompts, paint_masks, save_sheet, stretch_contrast
from sam_ft.task import PredictedChunk, PromptedSegmentation
from sam_ft.types import Size
from sam_ft.utils import distributed
from sam_ft.utils.cpu_kernels import areas
from sam_ft.utils.disk import OptionalFiles
from sam_ft.utils.geometry import resize_masks, resized_size

MAX_SIDE = 1024  # of a picture; larger images are drawn smaller, and kept so until the end of the run


@dataclass
class _Drawing:
    """The pictures of one image, onto which one chunk of objects after the other is drawn.

    prompts: (3, H, W) uint8 · gt, predicted: (3, H, W) float32

    No tensor of a chunk is kept, however small: it would split the block of memory that the next chunk needs.
    """

    prompts: Tensor
    gt: Tensor
    predicted: Tensor
    ious: list[float] = field(default_factory=list)

    def add(self, found: PredictedChunk, original_size: Size, ignore: Tensor | None) -> None:
        size = (self.gt.shape[-2], self.gt.shape[-1])
        gt, masks, objects = found.gt.cpu(), found.masks.cpu(), found.objects.cpu()
        paint_masks(self.gt, resize_masks(gt, size), objects.tolist())
        paint_masks(self.predicted, resize_masks(masks, size), objects.tolist())
        self.prompts = draw_prompts(self.prompts, [(objects, scale_prompts(found.prompts, original_size, size))])
        # Ignored pixels count in no score.
        counted = masks if ignore is None else masks & ~ignore
        self.ious += (areas(counted & gt) / areas(counted | gt)).tolist()

    def gt_panel(self) -> Panel:
        return "ground truth", self.gt.round().to(torch.uint8)

    def predicted_panel(self, title: str) -> Panel:
        return f"{title}, IoU {sum(self.ious) / len(self.ious):.3f}", self.predicted.round().to(torch.uint8)


class SamplePictures:
    """samples/*.png of a run: prompt | ground truth | zero-shot | tuned, for the first `count` images with objects.

    Only the main process draws; the others do not wait for it until they next meet.

    named: False leaves the names of the images out
    """

    def __init__(
        self,
        directory: Path,
        dataset: EvaluationSet,
        task: PromptedSegmentation,
        count: int,
        prompter: Prompter,
        chunk: int | None,
        named: bool = True,
    ) -> None:
        self._files = OptionalFiles("pictures will be missing")
        self._folder = directory / "samples"
        self._dataset = dataset
        self._task = task
        self._count = count if distributed.is_main() else 0
        self._prompter = prompter
        self._chunk = chunk
        self._named = named
        self._zero_shot: dict[int, list[Panel]] = {}

    def draw_zero_shot(self) -> None:
        """Writes samples/zero_shot.png, and keeps its pictures."""
        for index in self._choose():
            drawing, name = self._draw(index), self._dataset.split.names[index]
            self._zero_shot[index] = [
                (f"{shorten(name, 36)}: prompt" if self._named else "prompt", drawing.prompts),
                drawing.gt_panel(),
                drawing.predicted_panel("zero-shot"),
            ]
        self._save("zero_shot", list(self._zero_shot.values()))

    def draw(self, epoch: int) -> Iterator[Path]:
        """Writes samples/epoch_NNN.png with the present predictions beside those before training."""
        rows = [
            [*before, self._draw(index).predicted_panel(f"epoch {epoch}")] for index, before in self._zero_shot.items()
        ]
        yield from self._save(f"epoch_{epoch:03d}", rows)

    def _choose(self) -> Iterator[int]:
        """The first images with objects."""
        walk = range(len(self._dataset.split) if self._count else 0)
        return islice((index for index in walk if len(self._dataset.split.annotations(index).masks)), self._count)

    def _draw(self, index: int) -> _Drawing:
        image = stretch_contrast(self._dataset.split[index].image)
        original_size = (image.shape[-2], image.shape[-1])
        if max(original_size) > MAX_SIDE:
            image = resize_image(image, resized_size(original_size, MAX_SIDE))
        drawing = _Drawing(image, image.float(), image.float())
        batch = self._dataset.batch([index])
        ignore = batch.originals[0].ignore
        for found in self._task.predict(batch.to(self._task.model.device), self._prompter, self._chunk):
            drawing.add(found, original_size, ignore)
        return drawing

    def _save(self, name: str, rows: Sequence[Sequence[Panel]]) -> list[Path]:
        if not rows:
            return []
        path = self._folder / f"{name}.png"
        return [path] if self._files.write(path, lambda: save_sheet(path, {"": rows})) else []
