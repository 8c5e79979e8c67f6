"""Points on each object, and on the background near it."""

import numpy as np
import torch
from torch import Tensor

from sam_ft.prompts.base import Prompter
from sam_ft.prompts.ground_truth import GroundTruth, ground_truth, scale_pixels
from sam_ft.prompts.noise import uniform
from sam_ft.types import Batch, Prompts
from sam_ft.utils.geometry import deepest_pixel, grow_boxes, masks_to_boxes, pick_pixels

NEAR = 1.5  # background points lie in the object's box grown by this factor, where a user would need them


class Point(Prompter):
    """Prompts with points of the object, and of the background near it.

    positive, negative: number of points on the object, and on the background
    sampling: "uniform": each pixel is as likely; "center": the pixel deepest inside, where a person would click; the
        first one counts as outside for the second, and so on
    """

    def __init__(self, positive: int = 1, negative: int = 0, sampling: str = "uniform") -> None:
        if positive < 1 or negative < 0:
            raise ValueError(f"positive={positive} and negative={negative}; expected at least 1 and at least 0")
        if sampling not in ("uniform", "center"):
            raise ValueError(f"sampling={sampling}; expected uniform or center")
        self.positive = positive
        self.negative = negative
        self.sampling = sampling

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        """points: (M, positive + negative, 2), in evaluation at pixels of the original image, in training of the input.

        Padding stands where there is no pixel, as beside an object that fills its image, or with sampling="center" no
        further one. Uniform points may coincide.
        """
        gt, count = ground_truth(batch), self.positive + self.negative
        shares = uniform(batch, seed, "point", count)
        regions = [(gt.masks, shares[:, : self.positive])]
        if self.negative:
            regions.append((background_near(gt), shares[:, self.positive :]))
        picked, found = zip(*(self._pick(*region) for region in regions), strict=True)
        labels = torch.ones_like(shares, dtype=torch.int64)
        # (M, K): 1 for points of the object, then 0 for background, -1 where a region had no pixel left.
        labels[:, self.positive :] = 0
        labels = torch.where(torch.cat(found, dim=1), labels, -1)
        return Prompts(points=scale_pixels(torch.cat(picked, dim=1), gt.scale), point_labels=labels)

    def _pick(self, regions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(n, K, 2) x, y of K pixels of each region (n, H, W), and (n, K) bool, whether the region had one."""
        if self.sampling == "uniform":
            pixels, any_there = pick_pixels(regions, shares)
            return pixels, any_there[:, None].expand_as(shares)
        picked = np.zeros((*shares.shape, 2), np.int64)
        found = np.zeros(shares.shape, bool)
        for number, region in enumerate(regions.cpu().numpy().copy()):  # copy: clicked pixels are cleared in it
            for place in range(picked.shape[1]):
                x, y, depth = deepest_pixel(region)
                region[y, x] = False
                picked[number, place], found[number, place] = (x, y), depth > 0
        return torch.from_numpy(picked).to(regions.device), torch.from_numpy(found).to(regions.device)


def background_near(gt: GroundTruth) -> Tensor:
    """(M, H, W) bool: valid background in the box around each object, grown by `NEAR`."""
    y, x = (torch.arange(side, device=gt.masks.device) for side in gt.masks.shape[-2:])
    # (M, 1) each, to compare with all columns x and rows y.
    x0, y0, x1, y1 = grow_boxes(masks_to_boxes(gt.masks), NEAR)[:, :, None].unbind(1)
    columns, rows = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return rows[:, :, None] & columns[:, None, :] & gt.valid & ~gt.masks
