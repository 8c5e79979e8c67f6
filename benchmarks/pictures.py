"""Folders of drawn images to train on, as `data=folder` reads them."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sam_ft.data.sources.synthetic import draw_cells


def write_cells(root: Path, train: int, val: int, side: int = 512, objects: int = 1) -> Path:
    """train/ and val/ with images/ and masks/: the demo's cells at `side` pixels, of which the largest are marked.

    A mask with one object holds 0 and 255, so that it is read by data.objects=whole; one with more holds ids.
    """
    for split, count, first in (("train", train, 0), ("val", val, 10_000)):
        for number in range(count):
            image, ids = draw_cells(np.random.default_rng([7, first + number]))
            sizes = np.bincount(ids.ravel())[1:]
            largest = sizes.argsort()[::-1][:objects] + 1
            if len(largest) < objects:
                raise ValueError(f"a drawing has {len(largest)} cells, fewer than the {objects} objects asked for")
            mask = np.zeros(ids.shape, np.uint8)
            for rank, cell in enumerate(largest, 1):
                mask[ids == cell] = rank if objects > 1 else 255
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
            save_pair(root / split, f"cells_{number:04d}", image, cv2.resize(mask, (side, side), interpolation=0))
    return root


def write_discs(root: Path, objects: int, side: int = 1024, val_objects: int = 1) -> Path:
    """One image with so many discs in rows, each an object, to train on, and one with `val_objects` to validate."""
    for split, count in (("train", objects), ("val", val_objects)):
        columns = int(np.ceil(count**0.5))
        cell = side / columns
        mask = np.zeros((side, side), np.uint16)
        for number in range(count):
            x, y = (np.array([number % columns, number // columns]) + 0.5) * cell
            cv2.circle(mask, (round(x), round(y)), max(1, round(0.4 * cell)), number + 1, -1)
        image = np.where(mask > 0, 190, 90) + np.random.default_rng(count).normal(0, 12, mask.shape)
        save_pair(root / split, "discs", image.clip(0, 255).astype(np.uint8), mask)
    return root


def save_pair(folder: Path, name: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")
