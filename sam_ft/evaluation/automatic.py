"""Automatic mask generation (AMG): masks of a whole image from a grid of points, and their average precision.

Fine-tuning with prompts trains the decoder's single-mask output. AMG takes the three multimask outputs and keeps masks
of high pred_iou and stability, so a model with better scores for its prompts may generate nothing.
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
from sam_ft.types import Batch, Features, Prompts, Size, dense_parts
from sam_ft.utils import distributed
from sam_ft.utils.cpu_kernels import areas
from sam_ft.utils.geometry import masks_to_boxes, scale_points

PIXELS_PER_PASS = 2**24  # of upsampled logits: 64 MB, held a few times over


@dataclass
class MaskData:
    """The masks generated in one image, sorted by falling pred_iou; all on the CPU.

    rles: N masks in the original frame as COCO run lengths, {"size": [H, W], "counts": bytes}
    pred_iou: (N,) · stability_score: (N,), see `calculate_stability_score`
    boxes: (N, 4) x0, y0, x1, y1 in pixels of the original frame; x1, y1 one past the last pixel
    highest_pred_iou: over all candidates, before filtering
    """

    rles: list[dict]
    pred_iou: Tensor
    stability_score: Tensor
    boxes: Tensor
    highest_pred_iou: float


@torch.no_grad()
def generate_masks(
    task: PromptedSegmentation,
    features: Features,
    image: int,
    input_size: Size,
    original_size: Size,
    points_per_side: int = 32,
    points_per_batch: int | None = None,
    pred_iou_thresh: float = 0.88,
    stability_score_thresh: float = 0.95,
    box_nms_thresh: float = 0.7,
) -> MaskData:
    """Generates the masks of one image like segment-anything's SamAutomaticMaskGenerator without crops.

    features: from `task.encode` · image: its index in them · points_per_batch: None for the device's default
    pred_iou_thresh: keep masks of a pred_iou above it, then those of a stability score of at least
        `stability_score_thresh`; then suppress masks whose box overlaps that of a mask of higher pred_iou by an IoU
        above `box_nms_thresh`

    The official generator skips a filter whose threshold is 0; here 0 is a threshold like any other.
    """
    from torchvision.ops import nms  # torchvision takes two seconds to import, which only AMG should pay

    model = task.model
    # The grid is laid over the original image, as in the official generator, then moved to the input frame.
    points = scale_points(build_point_grid(points_per_side, original_size), original_size, input_size)
    data = MaskData([], torch.zeros(0), torch.zeros(0), torch.zeros(0, 4), -math.inf)
    for batch in points.to(model.device).split(points_per_batch or task.chunks.predict(original_size)):
        labels = torch.ones(len(batch), 1, dtype=torch.int64, device=batch.device)
        prompts = Prompts(points=batch[:, None], point_labels=labels)  # one point for each object
        with task.autocast():
            prediction = model.decode(features, prompts, torch.full_like(labels[:, 0], image), multimask=True)
        # Each of the three candidates is a mask of its own: (3 · points, 4s, 4s) and (3 · points,).
        logits, pred_iou = prediction.logits.float().flatten(0, 1), prediction.pred_iou.float().flatten()
        data.highest_pred_iou = max(data.highest_pred_iou, float(pred_iou.max()))
        # The cheap filter first: only masks that pass it are upsampled.
        keep = pred_iou > pred_iou_thresh
        _add_stable_masks(
            data, model, logits[keep], pred_iou[keep].cpu(), input_size, original_size, stability_score_thresh
        )
    # official boxes end at the last pixel, not one past it, which changes their IoU
    official_boxes = data.boxes.clone()
    official_boxes[:, 2:] = (official_boxes[:, 2:] - 1).clamp(min=0)
    # Non-maximum suppression by pred_iou over all batches of points, also of other candidates of one point.
    keep = nms(official_boxes, data.pred_iou, box_nms_thresh)
    rles = [data.rles[index] for index in keep.tolist()]
    return MaskData(rles, data.pred_iou[keep], data.stability_score[keep], data.boxes[keep], data.highest_pred_iou)


def _add_stable_masks(
    data: MaskData,
    model: Sam,
    logits: Tensor,
    pred_iou: Tensor,
    input_size: Size,
    original_size: Size,
    stability_score_thresh: float,
) -> None:
    """Adds the stable masks among logits (N, 4s, 4s), upsampling only as many at a time as fit in memory."""
    # The larger of the two frames that `postprocess` goes through decides.
    masks_per_pass = max(1, PIXELS_PER_PASS // max(model.image_size**2, original_size[0] * original_size[1]))
    for low_res, ious in zip(logits.split(masks_per_pass), pred_iou.split(masks_per_pass), strict=True):
        high_res = model.postprocess(low_res[:, None], input_size, original_size)[:, 0]
        stability_score = calculate_stability_score(high_res)
        stable = stability_score >= stability_score_thresh
        masks = (high_res > 0)[stable.to(high_res.device)]
        # Kept as run lengths: some thousand masks of an image would not fit in memory.
        data.rles += encode_masks(masks)
        data.pred_iou = torch.cat([data.pred_iou, ious[stable]])
        data.stability_score = torch.cat([data.stability_score, stability_score[stable]])
        data.boxes = torch.cat([data.boxes, masks_to_boxes(masks).cpu()])


def build_point_grid(points_per_side: int, size: Size) -> Tensor:
    """The centers of n × n equal cells of an image of `size`, row by row: (n², 2) float64 x, y in its pixels."""
    centers = (torch.arange(points_per_side, dtype=torch.float64) + 0.5) / points_per_side
    y, x = torch.meshgrid(centers * size[0], centers * size[1], indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def calculate_stability_score(logits: Tensor, threshold_offset: float = 1.0) -> Tensor:
    """The IoU of the masks thresholded at `threshold_offset` and at -`threshold_offset` (segment-anything).

    logits: (N, H, W) → (N,) float32 on the CPU, nan where both masks are empty
    """
    # the first mask is a subset of the second, so their areas are intersection and union
    return areas(logits > threshold_offset) / areas(logits > -threshold_offset)


def evaluate_amg(
    task: PromptedSegmentation,
    batches: Iterable[Batch],
    points_per_side: int = 32,
    points_per_batch: int | None = None,
    title: str = "generate",
) -> dict[str, float]:
    """Average precision of the masks generated in all images of an evaluation loader, over all processes.

    Images without objects count: every mask there is a false positive. "highest_pred_iou" is the mean over images of
    the highest pred_iou of any candidate; far below 0.88 no mask passes the filter, however good it is.
    `task` is the unwrapped one, see `sam_ft.evaluation.evaluate.evaluate_prompts`.
    """
    metric, highest_pred_ious = AveragePrecision(), []
    device = task.model.device
    for batch in tqdm(batches, title, leave=False, disable=None if distributed.is_main() else True):
        on_device = batch.to(device, non_blocking=True)
        with torch.no_grad():
            features = task.encode(on_device)
        for image, (name, size, original) in enumerate(zip(batch.names, batch.sizes, batch.originals, strict=True)):
            data = generate_masks(task, features, image, size, original.size, points_per_side, points_per_batch)
            # Of a few objects at a time: the run lengths of all images fit in memory, their masks may not.
            gt = [rle for part in dense_parts(original.masks, original.size) for rle in encode_masks(part)]
            metric.update(name, data.rles, data.pred_iou, gt, original.uncounted)
            highest_pred_ious.append(data.highest_pred_iou)
    # Processes may have different numbers of images.
    total, images = distributed.sum_over_ranks([sum(highest_pred_ious), len(highest_pred_ious)])
    return {**metric.compute(), "highest_pred_iou": total / images if images else math.nan}
