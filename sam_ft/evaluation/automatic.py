"""Masks of a whole image without prompts, as SAM's automatic mask generator finds them, and how good they are.

Fine-tuning with prompts trains the decoder's single-mask output. The generator asks a grid of points for three masks
each and keeps those that the model itself believes in, so a model with a better score at its prompts may find nothing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sam_ft.metrics.average_precision import AveragePrecision, encode_masks
from sam_ft.models import Sam
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, Prompts, Size
from sam_ft.utils import distributed
from sam_ft.utils.cpu_kernels import areas
from sam_ft.utils.geometry import masks_to_boxes, scale_points

PIXELS_AT_ONCE = 2**24  # of upsampled logits: 64 MB, of which there are a few copies


@dataclass
class FoundMasks:
    """The masks found in one image, the model's favorite first; all on the CPU.

    rles: N masks in the original frame as COCO's run lengths, {"size": [H, W], "counts": bytes}
    pred_iou: (N,) the model's guess, by which they are ranked · stability: (N,), see `stability_scores`
    boxes: (N, 4) x0, y0, x1, y1 in pixels of the original frame; x1, y1 one past the last true pixel
    highest_pred_iou: the highest IoU guessed for any candidate, kept or not
    """

    rles: list[dict]
    pred_iou: Tensor
    stability: Tensor
    boxes: Tensor
    highest_pred_iou: float


@torch.no_grad()
def generate(
    task: PromptedSegmentation,
    features: Features,
    image: int,
    input_size: Size,
    original_size: Size,
    points_per_side: int = 32,
    chunk: int | None = None,
    pred_iou_thresh: float = 0.88,
    stability_thresh: float = 0.95,
    nms_thresh: float = 0.7,
) -> FoundMasks:
    """All masks of one image, those that segment-anything's SamAutomaticMaskGenerator finds without crops.

    features: from `task.encode` · image: its place in them · chunk: points decoded at a time; None for what the
        device does well with
    pred_iou_thresh: masks whose guessed IoU is not above it are dropped, then those of a lower stability than
        `stability_thresh`, then those whose box has an IoU above `nms_thresh` with that of a higher guess

    The official generator takes a threshold of 0 to mean that nothing is dropped; here 0 is a number like others.
    """
    from torchvision.ops import (
        nms,  # here, because torchvision takes two seconds that most evaluations need not wait for
    )

    model = task.model
    points = scale_points(point_grid(points_per_side, original_size), original_size, input_size).to(model.device)
    found = FoundMasks([], torch.zeros(0), torch.zeros(0), torch.zeros(0, 4), -math.inf)
    for part in points.split(chunk or task.objects_at_once):
        ones = torch.ones(len(part), 1, dtype=torch.int64, device=part.device)
        prompts = Prompts(points=part[:, None], point_labels=ones)
        with task.autocast():
            prediction = model.decode(features, prompts, torch.full_like(ones[:, 0], image), multimask=True)
        logits, pred_iou = prediction.logits.float().flatten(0, 1), prediction.pred_iou.float().flatten()
        found.highest_pred_iou = max(found.highest_pred_iou, float(pred_iou.max()))
        good = pred_iou > pred_iou_thresh
        _add_stable(found, model, logits[good], pred_iou[good].cpu(), input_size, original_size, stability_thresh)
    # The official boxes end at the last pixel instead of behind it, which changes their IoU.
    official = found.boxes.clone()
    official[:, 2:] = (official[:, 2:] - 1).clamp(min=0)
    keep = nms(official, found.pred_iou, nms_thresh)
    rles = [found.rles[place] for place in keep.tolist()]
    return FoundMasks(rles, found.pred_iou[keep], found.stability[keep], found.boxes[keep], found.highest_pred_iou)


def _add_stable(
    found: FoundMasks,
    model: Sam,
    logits: Tensor,
    pred_iou: Tensor,
    input_size: Size,
    original_size: Size,
    stability_thresh: float,
) -> None:
    """Adds the stable masks among logits (N, 4s, 4s), at the original size only as many at once as memory bears."""
    at_once = max(1, PIXELS_AT_ONCE // max(model.image_size**2, original_size[0] * original_size[1]))
    for small, guess in zip(logits.split(at_once), pred_iou.split(at_once), strict=True):
        large = model.postprocess(small[:, None], input_size, original_size)[:, 0]
        stability = stability_scores(large)
        stable = stability >= stability_thresh
        masks = (large > 0)[stable.to(large.device)]
        found.rles += encode_masks(masks)
        found.pred_iou = torch.cat([found.pred_iou, guess[stable]])
        found.stability = torch.cat([found.stability, stability[stable]])
        found.boxes = torch.cat([found.boxes, masks_to_boxes(masks).cpu()])


def point_grid(points_per_side: int, size: Size) -> Tensor:
    """The centers of n × n equal cells of an image of `size`, row by row: (n², 2) float64 x, y in its pixels."""
    centers = (torch.arange(points_per_side, dtype=torch.float64) + 0.5) / points_per_side
    y, x = torch.meshgrid(centers * size[0], centers * size[1], indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def stability_scores(logits: Tensor, offset: float = 1.0) -> Tensor:
    """The IoU of each mask cut at logits above `offset` with the same cut at -`offset`, one lying in the other.

    logits: (N, H, W) → (N,) float32 on the CPU, nan where not even the larger one has a pixel
    (`calculate_stability_score` of segment-anything)
    """
    return areas(logits > offset) / areas(logits > -offset)


def evaluate_amg(
    task: PromptedSegmentation,
    batches: Iterable[Batch],
    points_per_side: int = 32,
    chunk: int | None = None,
    title: str = "generate",
) -> dict[str, float]:
    """Scores of the masks found in all images of an evaluation loader, shared by all processes.

    Images without objects count: every mask found there is wrong. "highest_pred_iou" is the highest IoU that the model
    guessed in an image, averaged over images: far below 0.88, nothing can be found, however good the masks are.
    `task` is the plain one, not its parallel wrapper, see `sam_ft.evaluation.evaluate.evaluate`.
    """
    metric, guesses = AveragePrecision(), []
    device = task.model.device
    for batch in tqdm(batches, title, leave=False, disable=None if distributed.is_main() else True):
        on_device = batch.to(device, non_blocking=True)
        with torch.no_grad(), task.autocast():
            features = task.encode(on_device)
        for image, name in enumerate(batch.names):
            sizes = batch.input_sizes[image], batch.original_sizes[image]
            found = generate(task, features, image, *sizes, points_per_side, chunk)
            metric.update(name, found.rles, found.pred_iou, batch.original_masks[image], batch.original_ignore[image])
            guesses.append(found.highest_pred_iou)
    total, images = distributed.sum_over_ranks([sum(guesses), len(guesses)])
    return {**metric.compute(), "highest_pred_iou": total / images if images else math.nan}
