"""Points in each object, and beside it."""

import torch
from torch import Tensor

from sam_ft.geometry import deepest_pixel, grow_boxes, masks_to_boxes, pick_pixels
from sam_ft.prompts.base import Prompter, Truth, truths
from sam_ft.prompts.noise import uniform
from sam_ft.types import Batch, Prompts

NEAR = 1.5  # background points lie in the object's box grown by this factor: where a user would have to say no


class Point(Prompter):
    """Prompts with points of the object, and of the background near it.

    positive, negative: points in the object, and beside it
    place: "random": anywhere there, each pixel as likely; "centre": the pixel deepest inside, where a person would
        click; a second one is deepest inside what is left when the first one counts as outside, and so on
    """

    def __init__(self, positive: int = 1, negative: int = 0, place: str = "random") -> None:
        if positive < 1 or negative < 0:
            raise ValueError(f"positive={positive} and negative={negative}; expected at least 1 and at least 0")
        if place not in ("random", "centre"):
            raise ValueError(f"place={place}; expected random or centre")
        self.positive = positive
        self.negative = negative
        self.place = place
        self.asks: list[str] = ["object point", "no mask", "one point" if positive + negative == 1 else "clear"]
        self.asks += ["background point"] if negative else []

    def __call__(self, batch: Batch, seed: int) -> Prompts:
        """points: (M, positive + negative, 2) pixels of the original frame in evaluation, of the input in training;
        an object with no background beside it has padding there.
        """
        count = self.positive + self.negative
        points = torch.zeros(batch.num_objects, count, 2, device=batch.image_index.device)
        labels = torch.ones(points.shape[:2], dtype=torch.int64, device=points.device)
        shares = uniform(batch, seed, "point", count)
        for truth in truths(batch):
            own = shares[truth.objects]
            regions = [(truth.masks, own[:, : self.positive])]
            if self.negative:
                regions.append((beside(truth), own[:, self.positive :]))
            picked, found = zip(*(self._pick(*region) for region in regions), strict=True)
            points[truth.objects] = torch.cat(picked, dim=1) * truth.scale
            if self.negative:
                labels[truth.objects, self.positive :] = torch.where(found[1], 0, -1)[:, None]
        return Prompts(points=points, point_labels=labels)

    def _pick(self, regions: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(n, K, 2) x, y of K pixels of each region (n, H, W), and (n,) bool whether it has any."""
        if self.place == "random":
            return pick_pixels(regions, shares)
        picked = torch.zeros(*shares.shape, 2, dtype=torch.int64)
        for region, pixels in zip(regions.cpu().numpy().copy(), picked, strict=True):
            for place in range(len(pixels)):
                x, y, _ = deepest_pixel(region)
                region[y, x] = False
                pixels[place] = torch.tensor([x, y])
        return picked.to(regions.device), regions.flatten(1).any(1)


def beside(truth: Truth) -> Tensor:
    """(n, H, W) bool: the background near each object."""
    y, x = (torch.arange(side, device=truth.masks.device) for side in truth.masks.shape[-2:])
    x0, y0, x1, y1 = grow_boxes(masks_to_boxes(truth.masks), NEAR)[:, :, None].unbind(1)
    columns, rows = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return rows[:, :, None] & columns[:, None, :] & truth.valid & ~truth.masks
