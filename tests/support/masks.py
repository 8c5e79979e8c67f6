"""Masks drawn as text, and random ones."""

import cv2
import numpy as np
import torch


def rows(*lines):
    """(1, H, W) bool, true where there is a #."""
    return torch.tensor([[[c == "#" for c in line] for line in lines]])


def square(height, width, top, left, side=8):
    """(1, side, side) bool with one filled rectangle."""
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, top : top + height, left : left + width] = True
    return mask


def random_pairs(count, size, seed=0):
    """predicted, gt: (count, H, W) bool, ragged blobs that overlap, some of them cut off by the image's border."""
    rng = np.random.default_rng(seed)
    pairs = np.zeros((2, count, *size), bool)
    for index in range(count):
        center = rng.uniform(0, 1, 2) * size
        for which in range(2):
            noise = cv2.GaussianBlur(rng.normal(0, 1, size), (0, 0), 3) * 8
            y, x = np.mgrid[: size[0], : size[1]]
            y0, x0 = center + rng.normal(0, 2, 2)
            pairs[which, index] = np.hypot(y - y0, x - x0) + noise < rng.uniform(6, 14)
    return torch.from_numpy(pairs).unbind(0)


class CountedMasks:
    """A compact form of masks that notes how many are made dense at a time."""

    def __init__(self, masks, reads):
        self.masks = masks
        self.reads = reads

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, positions):
        self.reads.append(len(positions))
        return self.masks[positions]
