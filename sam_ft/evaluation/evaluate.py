"""Scores of a model on a split, shared by all processes, each object scored once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from tqdm import tqdm

from sam_ft.data.tiled import image_of_tile
from sam_ft.evaluation.classes import SemanticScorer
from sam_ft.evaluation.instances import InstanceScorer
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.metrics import SegmentationMetrics
from sam_ft.metrics.aggregate import GroupScores
from sam_ft.models.heads import MapHead, SemanticHead
from sam_ft.prompts import Prompter
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Size
from sam_ft.utils import distributed
from sam_ft.utils.memory import explain_out_of_memory
from sam_ft.utils.preemption import preemption

LESS_MEMORY = "eval_chunk=4 (objects at once), eval_batch_size=1 (images at once), or a smaller model.image_size"


@dataclass
class Evaluation:
    """scores: means over all processes · rows: one per object of this process's share, in order of images.

    A row has the name of the image or tile, the object's rank in it, its label, the longer side of its box in the input
    frame, its area in the original frame, and its scores.

    groups: {"class" or "size": {name: scores}}, see `sam_ft.metrics.AggregatedScores`
    """

    scores: dict[str, float]
    rows: list[dict]
    groups: dict[str, dict[str, GroupScores]]


def evaluate_prompts(
    task: PromptedSegmentation,
    batches: Iterable[Batch],
    prompter: Prompter,
    metric: SegmentationMetrics,
    chunk: int | None = None,
    title: str = "evaluate",
    classes: Mapping[int, str] = {},
    without_prompts: InstanceScorer | SemanticScorer | None = None,
    prompted: Evaluation | None = None,
) -> Evaluation:
    """Scores every object of the batches at its image's original size; memory holds the masks of one chunk.

    classes: names of labels, where labels are classes · without_prompts: also scores what the head finds
    prompted: an evaluation with the same decoder, whose scores are taken over: only `without_prompts` is new

    `task` is the plain one, not its parallel wrapper: processes hold different numbers of batches here, and a
    wrapper's forward would wait for the others.

    Raises:
        TrainingError: memory has run out.
    """
    metric.reset()  # it may hold the images of an earlier evaluation
    if without_prompts is not None:
        without_prompts.reset()
    rows: list[dict] = []
    bar = tqdm(batches, title, leave=False, disable=None if distributed.is_main() else True)
    for given in preemption.stoppable(bar):
        with explain_out_of_memory([given], chunk or task.chunks.predict(_largest(given)), LESS_MEMORY):
            rows += _score_batch(task, given, prompter, metric, chunk, without_prompts, prompted)
    if prompted is not None:
        scores, rows, groups = prompted.scores, prompted.rows, prompted.groups
    else:
        scores, groups = metric.compute(classes)
    return Evaluation(scores if without_prompts is None else {**scores, **without_prompts.compute()}, rows, groups)


def _score_batch(
    task: PromptedSegmentation,
    batch: Batch,
    prompter: Prompter,
    metric: SegmentationMetrics,
    chunk: int | None,
    without_prompts: InstanceScorer | SemanticScorer | None,
    prompted: Evaluation | None,
) -> list[dict]:
    """Updates the scores, and returns a row for each object in their order."""
    batch = batch.to(task.model.device, non_blocking=True)
    with torch.no_grad():
        features = task.encode(batch)
    if without_prompts is not None:
        without_prompts.update(task, features, batch)
    if prompted is not None:
        return []
    own_rows: dict[int, dict] = {}  # by position on the axis M
    # Images without objects yield nothing: they have no score.
    for found in task.predict(batch, prompter, chunk, features):
        name, labels = batch.names[found.image], batch.labels[found.objects]
        ignore = batch.originals[found.image].ignore
        image = image_of_tile(name)  # the objects of its tiles count together
        own_scores = metric.update(image, found.masks, found.gt, found.pred_iou, labels, ignore, found.click_ious)
        # (n,) each; one row of every column is an object.
        boxes = batch.boxes[found.objects].double()
        sides = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1).round(decimals=2)
        columns = {"object": batch.object_index[found.objects], "label": labels, "input_side": sides, **own_scores}
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        for position, own in zip(found.objects.tolist(), values, strict=True):
            own_rows[position] = {"name": name, **dict(zip(columns, own, strict=True))}
    # Chunks may come in another order than objects.
    return [own_rows[position] for position in sorted(own_rows)]


def _largest(batch: Batch) -> Size:
    """The original size of the image with the most pixels."""
    return max((original.size for original in batch.originals), key=prod, default=(1, 1))


def head_scorer(head: MapHead) -> InstanceScorer | SemanticScorer:
    """The scores of what a head finds, for `evaluate_prompts`."""
    return SemanticScorer(head) if isinstance(head, SemanticHead) else InstanceScorer(WatershedThresholds())
