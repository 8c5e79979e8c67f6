"""Small images and masks on disk."""

import numpy as np
import pytest
from PIL import Image

from sam_ft.utils.errors import ConfigError, DataError

ORIENTATION = 0x0112  # EXIF's number for it

MASK = np.zeros((6, 8), np.uint8)
MASK[1:3, 1:4] = 255  # 6 pixels
MASK[4:6, 5:8] = 255  # 6 pixels
MASK[0, 7] = 255  # 1 pixel


def save(path, array, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def palette(indices, colors=(10, 20, 30, 200, 100, 50, 0, 0, 255, 7, 7, 7)):
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(colors)
    return image


def contents(folder):
    """The bytes of each file in `folder` and below."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make(root, names="abcdefghij", mask=MASK, suffix="png", masks="masks", **options):
    """images/ and masks/ with a file of each name; the image is of the gray value of its first letter."""
    for name in names:
        save(root / "images" / f"{name}.png", np.full((6, 8, 3), ord(name[0]), np.uint8))
        save(root / masks / f"{name}.{suffix}", mask, **options)
    return root


def refusal(act):
    with pytest.raises((DataError, ConfigError)) as caught:
        act()
    return str(caught.value)
