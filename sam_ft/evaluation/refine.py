"""Refines the instances of a head: the mask decoder predicts each anew from its box."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from sam_ft.data.io.windows import Windows
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.evaluation.prompted import EncodedImage, decode_prompts
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prompts
from sam_ft.utils.tiles import TileGrid

LEAST_FREE = 0.5  # of a mask that better ones do not cover; below that it is the same object


def refine_with_decoder(
    task: PromptedSegmentation,
    image: Windows,
    grid: TileGrid,
    masks: RunLengthMasks,
    foreground: Tensor,
    min_area: int,
    extremes: Tensor | None = None,
    encoded: Sequence[EncodedImage] = (),
) -> tuple[RunLengthMasks, Tensor]:
    """Predicts the mask in the box of each instance, and merges them: a pixel belongs to the mask of highest score.

    A score is pred_iou times the instance's own. A mask keeps its largest component outside of better masks, and is
    dropped if these cover half of it, or if fewer than `min_area` pixels are left.

    foreground: (N,) scores of the instances · extremes, encoded: see `decode_prompts`
    → n masks that do not overlap, in the order of the instances, and (n,) float32
    """
    prompts = Prompts(boxes=masks.boxes())
    decoded = {}
    for one in decode_prompts(task, image, grid, prompts, extremes, encoded):
        score = one.pred_iou * float(foreground[one.position])
        # As run lengths: all masks are held until they are sorted.
        counts = encode_crop(one.x0, one.y0, largest_component(one.mask), masks.size)
        decoded[one.position] = (score, counts)
    candidates = RunLengthMasks([counts for _, counts in decoded.values()], masks.size)
    scores = [score for score, _ in decoded.values()]
    positions = list(decoded)
    taken = np.zeros(masks.size, bool)
    kept: list[tuple[int, bytes, float]] = []
    for place in sorted(range(len(candidates)), key=lambda place: (-scores[place], positions[place])):
        x0, y0, mask = candidates.crop(place)
        there = taken[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
        free = mask & ~there
        if free.sum() <= LEAST_FREE * mask.sum():
            continue
        free = largest_component(free)
        if free.sum() < min_area:
            continue
        there |= free
        kept.append((positions[place], encode_crop(x0, y0, free, masks.size), scores[place]))
    kept.sort()
    refined = RunLengthMasks([counts for _, counts, _ in kept], masks.size)
    return refined, torch.tensor([score for *_, score in kept], dtype=torch.float32)


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected component with most pixels, of equal ones the first in scan order: (h, w), not empty → (h, w)"""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1
