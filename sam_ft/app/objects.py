"""The prompts that the page sends, and the masks that it receives."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sam_ft.types import Prompts, Size
from sam_ft.utils.errors import DataError


@dataclass(frozen=True)
class PageObject:
    """A mask within its box, in pixels of the image.

    number: of the mask among all of its image · x0, y0: of the first pixel of the box · mask: (h, w) bool
    """

    number: int
    x0: int
    y0: int
    mask: NDArray[np.bool_]
    score: float
    label: int

    def as_json(self) -> dict[str, Any]:
        """The fields, with the mask as a PNG: white, and transparent outside of it."""
        height, width = self.mask.shape
        alpha = (self.mask * np.uint8(255))[..., None]
        png = base64.b64encode(encode_png(np.concatenate([np.full_like(alpha, 255), alpha], axis=2))).decode()
        box = {"x": self.x0, "y": self.y0, "width": width, "height": height}
        return {"number": self.number, "score": round(self.score, 4), "label": self.label, "png": png, **box}


def prompts_from_json(box: Any, points: Any, labels: Any, size: Size) -> Prompts:
    """The prompts of one object.

    box: [x0, y0, x1, y1] or None · points: [[x, y], ...] with labels: [1, 0, ...], object or background; in pixels of
        the image
    size: (H, W) of the image

    Raises: DataError when there is no prompt, it is malformed, or it lies outside of the image.
    """
    height, width = size
    try:
        corners = None if box is None else torch.tensor(box, dtype=torch.float32).reshape(1, 4)
        places = torch.tensor(points or [], dtype=torch.float32).reshape(1, -1, 2)
        kinds = torch.tensor(labels or [], dtype=torch.float32).reshape(1, -1)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(f"box={box}, points={points}, labels={labels}; expected numbers") from None
    if places.shape[1] != kinds.shape[1] or not ((kinds == 0) | (kinds == 1)).all():
        raise DataError(f"points={points} have labels={labels}; expected 1 or 0 for each point")
    if corners is None and not places.shape[1]:
        raise DataError("there is neither a box nor a point")
    given = places if corners is None else torch.cat([places, corners.reshape(1, 2, 2)], dim=1)
    if not ((given >= 0) & (given <= torch.tensor([width, height]))).all():  # nan neither
        raise DataError(f"a prompt lies outside of the image, which is {width} wide and {height} high")
    if corners is not None and not (corners[0, :2] < corners[0, 2:]).all():
        raise DataError(f"box={box} is empty; expected x0, y0, x1, y1 with x0 < x1 and y0 < y1")
    some = places.shape[1] > 0
    return Prompts(boxes=corners, points=places if some else None, point_labels=kinds if some else None)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """pixels: (H, W, 2) gray with alpha, or (H, W, 3) RGB"""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
