"""A data set in memory: discs of different brightness on noise, small enough for tiny models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam_ft.types import Sample
from tests.support.masks import CountedMasks


class Blobs:
    """`counts[i]` discs in image i; images of different sizes, seeded by their position."""

    def __init__(self, counts):
        self.counts = counts
        self.classes = {}
        self.names = [f"blobs_{index}" for index in range(len(counts))]

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, index):
        image, ids = draw(index, self.counts[index])
        masks = torch.from_numpy(ids.astype(np.int64))[None] == torch.arange(1, self.counts[index] + 1)[:, None, None]
        return Sample(
            image=torch.from_numpy(image).permute(2, 0, 1),
            masks=masks,
            labels=torch.ones(len(masks), dtype=torch.int64),
            name=self.names[index],
            size=ids.shape,
            object_index=torch.arange(len(masks)),
        )

    def annotations(self, index):
        sample = self[index]
        return replace(sample, image=sample.image[:, :0, :0])

    def fingerprint(self, index):
        return None


def draw(seed, count):
    """image (H, W, 3) uint8 and ids (H, W) with `count` discs in cells of a grid, so that none hides another."""
    rng = np.random.default_rng(seed)
    height, width = 48 + 8 * (seed % 3), 72 - 8 * (seed % 2)
    y, x = np.mgrid[:height, :width]
    image = rng.integers(90, 130, (height, width, 3))
    ids = np.zeros((height, width), np.uint16)
    for number in range(count):
        row, column = divmod(number, 3)
        radius = rng.uniform(5, 8)
        disc = (y - 12 - 16 * row) ** 2 + (x - 12 - 20 * column) ** 2 < radius**2
        ids[disc] = number + 1
        image[disc] = image[disc] // 2 + rng.integers(60, 110)
    return image.clip(0, 255).astype(np.uint8), ids


def write_folder(root: Path, counts, names=None) -> Path:
    """The same as a folder: images/, masks/ (0 and 255), instances/ (ids); the last third is for validation."""
    names = names or [f"blobs_{index}" for index in range(len(counts))]
    for folder in ("images", "masks", "instances"):
        (root / folder).mkdir(parents=True)
    for index, (name, count) in enumerate(zip(names, counts, strict=True)):
        image, ids = draw(index, count)
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray((ids > 0).astype(np.uint8) * 255).save(root / "masks" / f"{name}.png")
        Image.fromarray(ids).save(root / "instances" / f"{name}.png")
    first_val = len(names) - max(1, len(names) // 3)
    (root / "train.txt").write_text("\n".join(names[:first_val]))
    (root / "val.txt").write_text("\n".join(names[first_val:]))
    return root


class CompactBlobs(Blobs):
    """The same with masks in a compact form. reads: how many were made dense at a time, since the start"""

    def __init__(self, counts):
        super().__init__(counts)
        self.reads = []

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return replace(sample, masks=CountedMasks(sample.masks, self.reads))
