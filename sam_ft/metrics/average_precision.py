"""Average precision of masks that were found without prompts."""

import math
from contextlib import redirect_stdout
from io import StringIO

import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from sam_ft.utils import distributed


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
        images = sorted(distributed.all_gather(self._images), key=lambda image: image[0])
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
