"""Pictures of prompts, truth and predictions, at the images' original size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

from sam_ft.files import atomic_path

Panel = tuple[str, Tensor]  # title, (3, H, W) uint8

_COLOURS = [tuple(int(255 * c) for c in colour) for colour in colormaps["tab10"].colors]  # type: ignore[attr-defined]


def with_boxes(image: Tensor, boxes: Tensor) -> Tensor:
    """The image (3, H, W) uint8 with boxes (N, 4) x0, y0, x1, y1 drawn in its frame."""
    if not len(boxes):
        return image
    width = max(1, round(max(image.shape[-2:]) / 400))
    corners = boxes.round().to(torch.int64)
    corners[:, 2:] = torch.maximum(corners[:, 2:] - 1, corners[:, :2])  # the last pixel inside, for drawing
    return draw_bounding_boxes(image, corners, colors=_colours(len(boxes)), width=width)


def with_masks(image: Tensor, masks: Tensor) -> Tensor:
    """The image (3, H, W) uint8 with masks (N, H, W) bool laid over it, one colour each, their outlines stronger."""
    if not len(masks):
        return image
    filled = draw_segmentation_masks(image, masks, alpha=0.35, colors=_colours(len(masks)))
    return draw_segmentation_masks(filled, outlines(masks), alpha=1.0, colors=_colours(len(masks)))


def outlines(masks: Tensor) -> Tensor:
    """The pixels of each mask (N, H, W) bool that touch a pixel outside it, above, below, left or right."""
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    inner = padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:] & padded[:, 1:-1, :-2]
    return masks & ~inner


def save_sheet(path: Path, rows: Sequence[Sequence[Panel]], inches: float = 3.0) -> None:
    """Writes a PNG with one row of titled panels under the other."""
    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(inches * columns, (inches + 0.3) * len(rows)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    axes = np.atleast_2d(figure.subplots(len(rows), columns, squeeze=False))
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, (title, picture) in zip(line, row, strict=False):
            axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_title(title, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _colours(count: int) -> list[tuple[int, ...]]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
