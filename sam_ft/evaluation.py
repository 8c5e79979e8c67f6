"""Scores of a model on a split, shared by all processes, each object scored once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from sam_ft import distributed
from sam_ft.geometry import areas
from sam_ft.metrics import IouDice
from sam_ft.prompts import Prompter
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch


@dataclass
class Evaluation:
    """scores: means over all processes · rows: one per object of this process's share, in order of images."""

    scores: dict[str, float]
    rows: list[dict]


def evaluate(
    task: PromptedSegmentation,
    batches: Iterable[Batch],
    prompter: Prompter,
    metric: IouDice,
    chunk: int | None = None,
    title: str = "evaluate",
) -> Evaluation:
    """Scores every object of the batches at its image's original size.

    `task` is the plain one, not its parallel wrapper: processes hold different numbers of batches here, and a
    wrapper's forward would wait for the others.
    """
    metric.reset()
    rows = []
    device = task.model.device
    for batch in tqdm(batches, title, leave=False, disable=None if distributed.is_main() else True):
        batch = batch.to(device, non_blocking=True)
        for predicted in task.predict(batch, prompter, chunk):
            true = batch.original_masks[predicted.image]
            scores = metric.update(predicted.masks, true, predicted.iou)
            objects = batch.objects_of(predicted.image)
            columns: Sequence = (
                batch.object_ids[objects].tolist(),
                batch.labels[objects].tolist(),
                areas(true).tolist(),
                scores["iou"].tolist(),
                scores["dice"].tolist(),
                predicted.iou.tolist(),
            )
            names = ("object", "label", "area", "iou", "dice", "guessed_iou")
            for values in zip(*columns, strict=True):
                rows.append({"name": batch.names[predicted.image], **dict(zip(names, values, strict=True))})
    return Evaluation(metric.compute(), rows)
