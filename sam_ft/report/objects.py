"""A sheet of the objects with the lowest and the highest IoU."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Prompter
from sam_ft.report.names import shorten
from sam_ft.report.pictures import DPI, Panel, draw_masks, save_sheet, stretch_contrast
from sam_ft.task import PromptedSegmentation
from sam_ft.utils.geometry import masks_to_boxes

INCHES = 2.4  # of a panel


def draw_worst_and_best(
    path: Path,
    task: PromptedSegmentation,
    dataset: EvaluationSet,
    prompter: Prompter,
    rows: Sequence[dict],
    count: int,
    chunk: int | None,
) -> None:
    """Writes a PNG: the `count` objects of lowest IoU, then those of highest, each as ground truth beside prediction.

    rows: as evaluate.py writes them; the last model that was scored decides, and it is the one in `task` now.
    """
    which = "tuned_iou" if "tuned_iou" in rows[0] else "zero_shot_iou"
    ranked = sorted(rows, key=lambda row: row[which])
    # No object stands in both parts, unless there is only one.
    count = min(count, len(ranked) // 2) or 1
    parts = {"lowest IoU": ranked[:count], "highest IoU": ranked[max(count, len(ranked) - count) :]}
    drawn = draw_objects(task, dataset, prompter, list(chain(*parts.values())), which, chunk)
    sheet = {}
    for heading, part in parts.items():
        pairs = [drawn[row["name"], row["object"]] for row in part]
        # two objects a line: the sheet stays about square
        sheet[heading] = [list(chain(*pairs[i : i + 2])) for i in range(0, len(pairs), 2)]
    save_sheet(path, {heading: lines for heading, lines in sheet.items() if lines}, INCHES)


def draw_objects(
    task: PromptedSegmentation,
    dataset: EvaluationSet,
    prompter: Prompter,
    rows: Sequence[dict],
    which: str,
    chunk: int | None,
) -> dict[tuple[str, int], list[Panel]]:
    """Ground truth and prediction of some objects, by name of the image and number of the object."""
    places = {name: index for index, name in enumerate(dataset.split.names)}
    drawn: dict[tuple[str, int], list[Panel]] = {}
    # Predicted anew, an image at a time: masks of a whole split would not fit in memory.
    for name in {row["name"] for row in rows}:
        wanted = {row["object"]: row for row in rows if row["name"] == name}
        batch = dataset.batch([places[name]])
        # Only these objects of the image.
        places_of_wanted = [place for place, own in enumerate(batch.object_index.tolist()) if own in wanted]
        batch = batch.select(torch.tensor(places_of_wanted)).to(task.model.device)
        image = stretch_contrast(dataset.split[places[name]].image)
        for found in task.predict(batch, prompter, chunk):
            for index, gt, mask in zip(batch.object_index[found.objects].tolist(), found.gt, found.masks, strict=True):
                row = wanted[index]
                drawn[name, index] = _object_panels(image, gt.cpu(), mask.cpu(), row, row.get(which, float("nan")))
    return drawn


def _object_panels(image: Tensor, gt: Tensor, predicted: Tensor, row: dict, iou: float) -> list[Panel]:
    """Ground truth and prediction on a cut-out three times the size of the object."""
    # The box of ground truth and prediction together, with a margin of its longer side.
    x0, y0, x1, y1 = masks_to_boxes((gt | predicted)[None])[0].int().tolist()
    margin = max(x1 - x0, y1 - y0, 8)
    height, width = gt.shape
    rows, columns = (
        slice(max(0, y0 - margin), min(height, y1 + margin)),
        slice(max(0, x0 - margin), min(width, x1 + margin)),
    )
    cut, gt, predicted = (_enlarged(part[:, rows, columns]) for part in (image, gt[None], predicted[None]))
    return [
        (f"{shorten(row['name'], 13)} object {row['object']}: ground truth", draw_masks(cut, gt, alpha=0.2)),
        (f"prediction, IoU {iou:.3f}", draw_masks(cut, predicted, alpha=0.2)),
    ]


def _enlarged(picture: Tensor) -> Tensor:
    """(C, H, W) with each pixel repeated up to the size of a panel, so that an outline is as thin as the screen's."""
    times = max(1, int(INCHES * DPI / max(picture.shape[-2:])))
    return picture.repeat_interleave(times, 1).repeat_interleave(times, 2)
