"""Pictures of a few validation objects for the report: the lowest, the median and the highest IoU."""

import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from PIL import Image

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Prompter
from sam_ft.report.object_scores import ObjectScores
from sam_ft.report.objects import draw_objects
from sam_ft.task import PromptedSegmentation
from sam_ft.utils.files import atomic_path, write_atomic

EXAMPLES = 3  # objects of each part
MOST_PIXELS = 640  # of the longer side of a picture


def choose_examples(objects: ObjectScores) -> dict[str, list[dict]]:
    """Rows of objects of the lowest, the median and the highest IoU, by the last model that was scored.

    No object is in two parts; few objects fill the first ones.
    """
    order = objects.columns[f"{objects.models[-1]}_iou"].argsort(kind="stable").tolist()
    count = min(EXAMPLES, -(-len(order) // 3))
    low, rest = order[:count], order[count:]
    high, rest = rest[max(0, len(rest) - count) :], rest[: max(0, len(rest) - count)]
    start = max(0, (len(rest) - count) // 2)
    parts = {"lowest IoU": low, "median IoU": rest[start : start + count], "highest IoU": high}
    return {heading: [objects.row(index) for index in part] for heading, part in parts.items() if part}


def draw_examples(
    folder: Path,
    task: PromptedSegmentation,
    dataset: EvaluationSet,
    prompter: Prompter,
    parts: Mapping[str, Sequence[dict]],
    chunk: int | None,
) -> None:
    """Writes a PNG for each object of `choose_examples`, and examples.json, which says what they show.

    They hold no text, so that a report can hide the names.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier epoch
    rows = list(chain(*parts.values()))
    drawn = draw_objects(task, dataset, prompter, rows, "tuned_iou", chunk)
    index: list[dict] = []
    for heading, part in parts.items():
        for row in part:
            path = folder / f"{len(index) + 1}.png"
            (_, gt), (_, predicted) = drawn[row["name"], row["object"]]
            gap = torch.full((3, gt.shape[1], 6), 255, dtype=torch.uint8)
            picture = Image.fromarray(torch.cat([gt, gap, predicted], dim=2).permute(1, 2, 0).contiguous().numpy())
            picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
            with atomic_path(path) as temporary:
                picture.save(temporary, format="png")
            index.append({"file": path.name, "part": heading, **row})
    write_atomic(folder / "examples.json", json.dumps(index, indent=2) + "\n")
