"""COCO's average precision of masks generated without prompts."""

import math
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from sam_ft.utils import distributed


def encode_masks(masks: Tensor) -> list[dict]:
    """Encodes masks as COCO's run lengths (RLE).

    masks: (N, H, W) bool → N dicts {"size": [H, W], "counts": bytes}
    """
    # COCO expects column-major (H, W, N): transposed here, so that NumPy does not copy again
    columns = masks.cpu().transpose(1, 2).contiguous().view(torch.uint8).numpy()
    return coco_mask.encode(columns.transpose(2, 1, 0))


class AveragePrecision:
    """Class-agnostic average precision at IoU 0.50, 0.55, ..., 0.95, and the number of predicted masks per image.

    Masks of all images are ranked by score. Each is matched to the unmatched gt object of highest IoU if that reaches
    the threshold, and is a false positive otherwise; precision is averaged over 101 recall thresholds. Unlike COCO's
    defaults there is no limit on masks per image and no area range.
    Call `update` once per image, then `compute` on all processes together.
    Source: Lin et al. 2014, https://arxiv.org/abs/1405.0312, computed by COCOeval.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._images: list[tuple] = []

    def update(self, name: str, rles: list[dict], scores: Tensor, gt: list[dict], ignore: Tensor | None = None) -> None:
        """Adds one image.

        name: unique · rles: N predicted masks · scores: (N,), for ranking · gt: M objects as run lengths
        ignore: (H, W) bool, COCO's crowd region: an unmatched mask counts for nothing if at least the threshold's
            fraction of it lies there
        """
        regions = [] if ignore is None or not ignore.any() else encode_masks(ignore[None])
        self._images.append((name, rles, scores.tolist(), gt, regions))

    def compute(self) -> dict[str, float]:
        """{"ap", "ap50", "ap75", "masks_per_image"} over all processes; AP is 0 without predictions and nan without gt.

        ap: the mean over all IoU thresholds
        """
        # sorted by name: equal scores keep the order of their images, which must not depend on the number of processes
        images = sorted(distributed.all_gather(self._images), key=lambda image: image[0])
        if not images:
            return dict.fromkeys(("ap", "ap50", "ap75", "masks_per_image"), math.nan)
        predicted = [
            (i, rle, {"score": s}) for i, image in enumerate(images) for rle, s in zip(*image[1:3], strict=True)
        ]
        gt = [(i, rle, {"iscrowd": 0}) for i, image in enumerate(images) for rle in image[3]]
        ignored = [(i, rle, {"iscrowd": 1}) for i, image in enumerate(images) for rle in image[4]]
        with redirect_stdout(StringIO()):  # pycocotools prints its progress
            evaluator = COCOeval(_to_coco(gt + ignored, len(images)), _to_coco(predicted, len(images)), "segm")
            params = evaluator.params
            # One limit above the number of predictions, and one range of all areas: nothing is left out.
            params.maxDets = [max(1, len(predicted))]
            params.areaRng, params.areaRngLbl = [[0, float("inf")]], ["all"]
            evaluator.evaluate()
            evaluator.accumulate()
        # precision: (IoU threshold, recall threshold, category, area range, limit); the mean is over recall.
        by_iou = evaluator.eval["precision"][:, :, 0, 0, 0].mean(axis=1) if gt else np.full(10, math.nan)
        scores = {"ap": float(by_iou.mean()), "ap50": float(by_iou[0]), "ap75": float(by_iou[5])}
        return {**scores, "masks_per_image": len(predicted) / len(images)}


def _to_coco(masks: list[tuple[int, dict, dict]], image_count: int) -> COCO:
    """Builds a COCO data set of one category in memory.

    masks: (image id, RLE, further fields of the annotation) each
    """
    coco = COCO()
    coco.dataset = {
        # COCO looks up height and width, but then uses those of the RLEs
        "images": [{"id": image, "height": 0, "width": 0} for image in range(image_count)],
        "categories": [{"id": 1}],
        "annotations": [  # ids from 1: COCOeval takes 0 for "no match"
            {"id": number, "image_id": image, "category_id": 1, "segmentation": rle, "area": 0, **fields}
            for number, (image, rle, fields) in enumerate(masks, 1)
        ],
    }
    coco.createIndex()
    return coco
