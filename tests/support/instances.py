"""Predicted objects that are hard to write: at the border, of one pixel, with holes, parts, touching, overlapping."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam_ft.writers.instances import Instances, compress_masks

SIZE = (40, 60)
CLASSES = {2: "nucleus", 5: 'cell, "odd": ü😀/b'}
NAMES = ["corner", "pixel", "hole", "parts", "left", "right", "border", "diagonal", "disc", "line"]
WITHOUT_HOLES_AND_PARTS = [i for i, name in enumerate(NAMES) if name not in ("hole", "parts", "diagonal")]


def hard_masks():
    """(10, 40, 60) bool, see NAMES."""
    masks = {name: np.zeros(SIZE, bool) for name in NAMES}
    masks["corner"][:5, :7] = True
    masks["pixel"][20, 30] = True
    masks["hole"][5:15, 10:22] = True
    masks["hole"][8:11, 13:16] = masks["hole"][11, 16] = False  # the second hole touches the first
    masks["parts"][5:10, 30:36] = masks["parts"][12:14, 30:33] = True
    masks["left"][18:30, 2:10] = masks["right"][18:30, 10:17] = True  # share an edge
    masks["border"][25:, 50:] = True
    masks["border"][38:, 20:50] = True
    masks["diagonal"][32, 3] = masks["diagonal"][33, 4] = masks["diagonal"][34:36, 5:7] = True
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    masks["disc"][(y - 28) ** 2 + (x - 46) ** 2 < 50] = True  # overlaps the border
    masks["line"][2, 40:58] = True
    return np.stack(list(masks.values()))


def make_instances(folder, name="a", masks=None, scores=None, **fields):
    """The hard masks on an image that is written to `folder`."""
    masks = hard_masks() if masks is None else masks
    size = masks.shape[1:]
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(120, 250, (3, *size), dtype=torch.uint8, generator=generator)
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    given = {
        "name": name,
        "file": f"{name}.png",
        "path": path,
        "masks": compress_masks(torch.from_numpy(masks), size),
        # not in order, and not exact in float64
        "scores": torch.linspace(0.1, 0.9, len(masks)).roll(3) if scores is None else torch.tensor(scores),
        "labels": torch.tensor([2, 5])[torch.arange(len(masks)) % 2],
        "classes": CLASSES,
        "image": image,
    }
    return Instances(**{**given, **fields})


def no_masks(size=SIZE):
    return np.zeros((0, *size), bool)


def mask_ious(read, masks):
    """(N,) the IoU of each pair of (N, H, W) bool."""
    read, masks = np.stack(read), np.asarray(masks)
    assert read.shape == masks.shape
    return (read & masks).sum((1, 2)) / (read | masks).sum((1, 2))
