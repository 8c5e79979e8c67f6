"""The ways to find the objects of an image: by a head, by a grid of points, or by prompts for each object."""

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sam_ft.data.io.windows import Windows
from sam_ft.data.sources.prompt_file import ObjectPrompt, PromptFile
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.evaluation.automatic import generate_masks
from sam_ft.evaluation.classes import segment_classes
from sam_ft.evaluation.prompted import decode_prompts, encode_window
from sam_ft.evaluation.segment import SegmentOptions, image_extremes, segment_image
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prompts
from sam_ft.utils.errors import DataError
from sam_ft.utils.tiles import TileGrid

log = logging.getLogger("sam_ft")

GRID_PIXELS = 2**25  # of an image, whose masks are predicted as a whole


class FoundObjects(NamedTuple):
    """The N objects of an image: masks, none of them empty · scores: (N,) float32 · labels: (N,) int64"""

    masks: RunLengthMasks
    scores: Tensor
    labels: Tensor


# The objects of an image; file: its path below the folder of images.
FindObjects = Callable[[Windows, str], FoundObjects]


def find_by_head(task: PromptedSegmentation, options: SegmentOptions, image: Windows, file: str) -> FoundObjects:
    """Those of a semantic head with their classes; those of a head for instances are all of one class, 1."""
    if isinstance(task.model.head, SemanticHead):
        return FoundObjects(*segment_classes(task, image, options.tile))
    masks, scores = segment_image(task, image, options)
    return FoundObjects(masks, scores, torch.ones(len(masks), dtype=torch.int64))


def find_by_grid(task: PromptedSegmentation, points_per_side: int, image: Windows, file: str) -> FoundObjects:
    """All of one class, 1, with pred_iou as their score, and a warning where the filter of pred_iou keeps none.

    Raises: DataError when the image is too large, since the grid has no tiles.
    """
    height, width = image.size
    if height * width > GRID_PIXELS:
        raise DataError(
            f"{file}: is {width} x {height} pixels; the grid of points takes at most {GRID_PIXELS / 1e6:.0f} million, "
            "a head takes any size: train with head=instances"
        )
    whole = (slice(0, image.size[0]), slice(0, image.size[1]))
    features, input_size = encode_window(task, image, whole)
    data = generate_masks(task, features, 0, input_size, image.size, points_per_side)
    if not data.rles:
        log.warning(
            "%s: no objects; the highest pred_iou of the grid of points is %.2f, and masks above 0.88 are kept",
            file,
            data.highest_pred_iou,
        )
    masks = RunLengthMasks([one["counts"] for one in data.rles], image.size)
    return FoundObjects(masks, data.pred_iou.float(), torch.ones(len(masks), dtype=torch.int64))


def find_by_prompts(
    task: PromptedSegmentation, tile: int | None, prompts: PromptFile, image: Windows, file: str
) -> FoundObjects:
    """One mask for each object of the file, in its order, with pred_iou as its score; empty ones are left out.

    Raises: DataError when prompts lie outside of the image.
    """
    name = prompts.find(file)
    objects = [] if name is None else prompts.objects[name]
    for one in objects:
        _check_inside(one, image, file)
    grid = TileGrid(image.size, tile or max(image.size))
    extremes = image_extremes(task, image, grid)
    # Objects with the same kinds of prompts are decoded together.
    groups: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for position, one in enumerate(objects):
        groups[one.box is not None, len(one.points)].append(position)
    found = []
    for (boxed, points), members in groups.items():
        some = [objects[member] for member in members]
        own = Prompts(
            boxes=torch.tensor([one.box for one in some]) if boxed else None,
            points=torch.tensor([[point[:2] for point in one.points] for one in some]) if points else None,
            point_labels=torch.tensor([[point[2] for point in one.points] for one in some]) if points else None,
        )
        for mask in decode_prompts(task, image, grid, own, extremes):
            counts = encode_crop(mask.x0, mask.y0, mask.mask, image.size)
            found.append((members[mask.position], counts, mask.pred_iou))
    if lost := len(objects) - len(found):
        log.warning("%s: %d of %d prompts gave an empty mask", file, lost, len(objects))
    found.sort()
    labels = torch.tensor([objects[position].label for position, *_ in found], dtype=torch.int64)
    scores = torch.tensor([score for *_, score in found], dtype=torch.float32)
    return FoundObjects(RunLengthMasks([counts for _, counts, _ in found], image.size), scores, labels)


def _check_inside(one: ObjectPrompt, image: Windows, file: str) -> None:
    """Refuses prompts outside of the image, for which SAM would predict some mask. Raises: DataError"""
    height, width = image.size
    size = f"the image, which is {width} wide and {height} high"
    if one.box is not None:
        x0, y0, x1, y1 = one.box
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise DataError(f"{file}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} lies outside of {size}")
    for x, y, _ in one.points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise DataError(f"{file}: the point {x:g}, {y:g} lies outside of {size}")
