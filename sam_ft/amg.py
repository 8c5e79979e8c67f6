"""Masks of a whole image without prompts, as SAM's automatic mask generator finds them, and how good they are.

Fine-tuning with prompts trains the decoder's single-mask output. The generator asks a grid of points for three masks
each and keeps those that the model itself believes in, so a model with a better score at its prompts may find nothing.
"""

import math
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision.ops import nms
from tqdm import tqdm

from sam_ft import distributed
from sam_ft.geometry import areas, masks_to_boxes, scale_points
from sam_ft.models import Sam
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, Prompts, Size

PIXELS_AT_ONCE = 2**24  # of upsampled logits: 64 MB, of which there are a few copies


@dataclass
class FoundMasks:
    """The masks found in one image, the model's favourite first; all on the CPU.

    rles: N masks in the original frame as COCO's run lengths, {"size": [H, W], "counts": bytes}
    iou: (N,) the model's guess, by which they are ranked · stability: (N,), see `stability_scores`
    boxes: (N, 4) x0, y0, x1, y1 in pixels of the original frame; x1, y1 one past the last true pixel
    highest_guess: the highest IoU guessed for any candidate, kept or not
    """

    rles: list[dict]
    iou: Tensor
    stability: Tensor
    boxes: Tensor
    highest_guess: float


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
    model = task.model
    points = scale_points(point_grid(points_per_side, original_size), original_size, input_size).to(model.device)
    found = FoundMasks([], torch.zeros(0), torch.zeros(0), torch.zeros(0, 4), -math.inf)
    for part in points.split(chunk or task.objects_at_once):
        ones = torch.ones(len(part), 1, dtype=torch.int64, device=part.device)
        prompts = Prompts(points=part[:, None], point_labels=ones)
        with task.autocast():
            prediction = model.decode(features, prompts, torch.full_like(ones[:, 0], image), multimask=True)
        logits, iou = prediction.logits.float().flatten(0, 1), prediction.iou.float().flatten()
        found.highest_guess = max(found.highest_guess, float(iou.max()))
        good = iou > pred_iou_thresh
        _add_stable(found, model, logits[good], iou[good].cpu(), input_size, original_size, stability_thresh)
    # The official boxes end at the last pixel instead of behind it, which changes their IoU.
    official = found.boxes.clone()
    official[:, 2:] = (official[:, 2:] - 1).clamp(min=0)
    keep = nms(official, found.iou, nms_thresh)
    rles = [found.rles[place] for place in keep.tolist()]
    return FoundMasks(rles, found.iou[keep], found.stability[keep], found.boxes[keep], found.highest_guess)


def _add_stable(
    found: FoundMasks,
    model: Sam,
    logits: Tensor,
    iou: Tensor,
    input_size: Size,
    original_size: Size,
    stability_thresh: float,
) -> None:
    """Adds the stable masks among logits (N, 4s, 4s), at the original size only as many at once as memory bears."""
    at_once = max(1, PIXELS_AT_ONCE // max(model.image_size**2, original_size[0] * original_size[1]))
    for small, guess in zip(logits.split(at_once), iou.split(at_once), strict=True):
        large = model.postprocess(small[:, None], input_size, original_size)[:, 0]
        stability = stability_scores(large)
        stable = stability >= stability_thresh
        masks = (large > 0)[stable.to(large.device)]
        found.rles += encode_masks(masks)
        found.iou = torch.cat([found.iou, guess[stable]])
        found.stability = torch.cat([found.stability, stability[stable]])
        found.boxes = torch.cat([found.boxes, masks_to_boxes(masks).cpu()])


def point_grid(points_per_side: int, size: Size) -> Tensor:
    """The centres of n × n equal cells of an image of `size`, row by row: (n², 2) float64 x, y in its pixels."""
    centres = (torch.arange(points_per_side, dtype=torch.float64) + 0.5) / points_per_side
    y, x = torch.meshgrid(centres * size[0], centres * size[1], indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def stability_scores(logits: Tensor, offset: float = 1.0) -> Tensor:
    """The IoU of each mask cut at logits above `offset` with the same cut at -`offset`, one lying in the other.

    logits: (N, H, W) → (N,) float32 on the CPU, nan where not even the larger one has a pixel
    (`calculate_stability_score` of segment-anything)
    """
    return areas(logits > offset) / areas(logits > -offset)


def encode_masks(masks: Tensor) -> list[dict]:
    """masks: (N, H, W) bool → N run-length encodings as COCO has them."""
    # COCO runs down the columns: transposed here, so that NumPy need not copy.
    columns = masks.cpu().transpose(1, 2).contiguous().view(torch.uint8).numpy()
    return coco_mask.encode(columns.transpose(2, 1, 0))


class AveragePrecision:
    """COCO's average precision of found masks, whatever their class, and how many masks an image has.

    AP (Lin et al. 2014, as in COCOeval): masks of all images, ranked by the guessed IoU; each takes the free true
    object that it overlaps most, if by an IoU of at least 0.5 or 0.75, or is wrong; precision is averaged over 101
    steps of recall. All masks count, however many, of any size. In an image without objects every mask is wrong.
    Call `update` once per image, then `compute` on all processes together.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._images: list[tuple] = []

    def update(self, name: str, rles: list[dict], scores: Tensor, true: Tensor, ignore: Tensor | None = None) -> None:
        """Adds one image.

        name: no other image has it · rles: N found masks · scores: (N,), which rank them
        true: (M, H, W) bool, the objects · ignore: (H, W) bool, a found mask of which at least the same share (0.5
            or 0.75) lies there is neither right nor wrong, unless it takes an object
        """
        regions = [] if ignore is None or not ignore.any() else encode_masks(ignore[None])
        self._images.append((name, rles, scores.tolist(), encode_masks(true), regions))

    def compute(self) -> dict[str, float]:
        """{"ap50", "ap75", "masks_per_image"} over all processes; 0 if nothing was found, nan if nothing was there."""
        # by name, for equal scores keep the order of their images, which must not hang on the number of processes
        images = sorted(distributed.gather(self._images), key=lambda image: image[0])
        if not images:
            return {"ap50": math.nan, "ap75": math.nan, "masks_per_image": math.nan}
        found = [(i, rle, {"score": s}) for i, image in enumerate(images) for rle, s in zip(*image[1:3], strict=True)]
        true = [(i, rle, {"iscrowd": 0}) for i, image in enumerate(images) for rle in image[3]]
        ignored = [(i, rle, {"iscrowd": 1}) for i, image in enumerate(images) for rle in image[4]]
        with redirect_stdout(StringIO()):  # it talks
            evaluator = COCOeval(_as_coco(true + ignored, len(images)), _as_coco(found, len(images)), "segm")
            settings = evaluator.params
            settings.iouThrs, settings.maxDets = [0.5, 0.75], [max(1, len(found))]
            settings.areaRng, settings.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluator.evaluate()
            evaluator.accumulate()
        ap50, ap75 = evaluator.eval["precision"][:, :, 0, 0, 0].mean(axis=1).tolist() if true else (math.nan, math.nan)
        return {"ap50": ap50, "ap75": ap75, "masks_per_image": len(found) / len(images)}


def _as_coco(masks: list[tuple[int, dict, dict]], images: int) -> COCO:
    """A COCO data set of one class, in memory; masks: image, run lengths, and what else is to be said of each."""
    coco = COCO()
    coco.dataset = {
        # COCO looks up sizes here, and then takes those of the masks
        "images": [{"id": image, "height": 0, "width": 0} for image in range(images)],
        "categories": [{"id": 1}],
        "annotations": [  # from 1: COCOeval takes the id 0 for "no match"
            {"id": number, "image_id": image, "category_id": 1, "segmentation": rle, "area": 0, **more}
            for number, (image, rle, more) in enumerate(masks, 1)
        ],
    }
    coco.createIndex()
    return coco


def evaluate_amg(
    task: PromptedSegmentation,
    batches: Iterable[Batch],
    points_per_side: int = 32,
    chunk: int | None = None,
    title: str = "generate",
) -> dict[str, float]:
    """Scores of the masks found in all images of an evaluation loader, shared by all processes.

    Images without objects count: every mask found there is wrong. "highest_guess" is the highest IoU that the model
    guessed in an image, averaged over images: far below 0.88, nothing can be found, however good the masks are.
    `task` is the plain one, not its parallel wrapper, see `sam_ft.evaluation.evaluate`.
    """
    metric, guesses = AveragePrecision(), []
    device = task.model.device
    for batch in tqdm(batches, title, leave=False, disable=None if distributed.is_main() else True):
        ignored = batch.original_ignore or [None] * len(batch.names)
        on_device = batch.to(device, non_blocking=True)
        with torch.no_grad(), task.autocast():
            features = task.encode(on_device)
        for image, name in enumerate(batch.names):
            sizes = batch.input_sizes[image], batch.original_sizes[image]
            found = generate(task, features, image, *sizes, points_per_side, chunk)
            metric.update(name, found.rles, found.iou, batch.original_masks[image], ignored[image])
            guesses.append(found.highest_guess)
    total, images = distributed.sum_over_ranks([sum(guesses), len(guesses)])
    return {**metric.compute(), "highest_guess": total / images if images else math.nan}
