"""A folder of images with discs, squares and rings of different textures, and masks of their classes."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"disc": 1, "square": 5, "ring": 200}
OPTION = "data.classes={disc: 1, square: 5, ring: 200}"


def draw_shapes(seed: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """image (S, S, 3) uint8 and classes (S, S) uint8, 0 for the background: a few shapes in cells of a grid."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    image, classes = rng.integers(90, 130, (side, side, 3)), np.zeros((side, side), np.uint8)
    cell = side // 3
    for place in rng.permutation(9)[:6]:
        row, column = cell * (np.array(divmod(place, 3)) + 0.5)
        radius, kind = cell * rng.uniform(0.3, 0.45), rng.integers(3)
        distance = np.hypot(y - row, x - column)
        square = np.maximum(abs(y - row), abs(x - column)) < 0.9 * radius
        mask = [distance < radius, square, (distance < radius) & (distance > 0.45 * radius)][kind]
        classes[mask] = list(CLASSES.values())[kind]
        image[mask] = rng.integers(0, 40, 3) + [[200, 60, 60], [60, 200, 60], [60, 60, 200]][kind]
    return image.clip(0, 255).astype(np.uint8), classes


def write_shapes(root: Path, images: int, val: int, side: int = 64) -> Path:
    """images/, masks/ (the classes), and binary/ (0 and 255); the last `val` images are for validation."""
    for folder in ("images", "masks", "binary"):
        (root / folder).mkdir(parents=True)
    names = [f"shapes_{index:02d}" for index in range(images)]
    for index, name in enumerate(names):
        image, classes = draw_shapes(index, side)
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray(classes).save(root / "masks" / f"{name}.png")
        Image.fromarray(np.where(classes > 0, 255, 0).astype(np.uint8)).save(root / "binary" / f"{name}.png")
    (root / "train.txt").write_text("\n".join(names[:-val]))
    (root / "val.txt").write_text("\n".join(names[-val:]))
    return root
