"""Draws prompts, ground truth and predictions on images at their original size."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from sam_ft.report.names import shorten
from sam_ft.types import Prompts
from sam_ft.utils.files import atomic_path
from sam_ft.utils.geometry import masks_to_boxes

Panel = tuple[str, Tensor]  # title, (3, H, W) uint8
DPI = 110
TITLE_CHARACTERS = 16  # that fit into an inch at size 7

# without its gray, which is invisible on a gray image
COLORS = [tuple(round(255 * c) for c in colormaps["tab10"](i)[:3]) for i in range(10) if i != 7]
_POINT_COLORS = {1: (40, 200, 40), 0: (230, 40, 40)}  # object, background; padding is not drawn


def stretch_contrast(image: Tensor, reference: Tensor | None = None) -> Tensor:
    """Brightens a dark image (3, H, W) uint8 for display only; the model reads the original.

    If 99 % of all values are below 100, as in fluorescence microscopy, the range between the 1st and the 99th
    percentile of all channels together is stretched to 0..255.

    reference: the whole image, or some of its pixels, where `image` is a part of it
    """
    low, high = np.percentile((image if reference is None else reference).numpy(), (1, 99))
    if high >= 100:
        return image
    return ((image - low) * (255 / max(1.0, high - low))).clamp(0, 255).round().to(torch.uint8)


def draw_prompts(image: Tensor, groups: Iterable[tuple[Tensor, Prompts]]) -> Tensor:
    """Draws the boxes and points of all objects on an image (3, H, W) uint8.

    groups: (n,) indices of some objects, and their prompts in the frame of the image
    A box has the color of the object in `draw_masks`; object points are green, background points red.
    """
    width = max(1, round(max(image.shape[-2:]) / 400))  # of lines, in pixels of the image
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pen = ImageDraw.Draw(picture)
    for indices, prompts in groups:
        if prompts.boxes is not None:
            corners = prompts.boxes.cpu().round().to(torch.int64)
            corners[:, 2:] = torch.maximum(corners[:, 2:] - 1, corners[:, :2])  # PIL includes the last pixel
            for box, index in zip(corners.tolist(), indices.tolist(), strict=True):
                pen.rectangle(box, outline=COLORS[index % len(COLORS)], width=width)
        if prompts.points is not None and prompts.point_labels is not None:
            labels = prompts.point_labels.flatten().tolist()
            for (x, y), label in zip(prompts.points.flatten(0, 1).tolist(), labels, strict=True):
                if label in _POINT_COLORS:
                    radius = 2 * width
                    circle = (x - radius, y - radius, x + radius, y + radius)
                    pen.ellipse(circle, fill=_POINT_COLORS[label], outline=(255, 255, 255))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def draw_masks(image: Tensor, masks: Tensor, alpha: float = 0.35, indices: Sequence[int] | None = None) -> Tensor:
    """Overlays masks (N, H, W) bool on an image (3, H, W) uint8, one color each, with solid outlines.

    Overlapping masks mix their colors (torchvision's draw_segmentation_masks leaves black there).

    indices: of the objects, which give their colors; None for 0 to N - 1
    """
    picture = image.float()
    paint_masks(picture, masks, range(len(masks)) if indices is None else indices, alpha)
    return picture.round().to(torch.uint8)


def paint_masks(picture: Tensor, masks: Tensor, indices: Sequence[int], alpha: float = 0.35) -> None:
    """The same on a picture (3, H, W) float32, in place: further objects need no memory."""
    for mask, index in zip(masks, indices, strict=True):
        # Only the box of the object: an image may have thousands of small ones.
        x0, y0, x1, y1 = masks_to_boxes(mask[None])[0].int().tolist()
        inside, part = mask[y0:y1, x0:x1], picture[:, y0:y1, x0:x1]
        # (3, 1, 1) float32.
        paint = torch.tensor(COLORS[index % len(COLORS)], dtype=torch.float32)[:, None, None]
        blended = torch.where(inside, (1 - alpha) * part + alpha * paint, part)
        picture[:, y0:y1, x0:x1] = torch.where(mask_outlines(inside[None]), paint, blended)


def mask_outlines(masks: Tensor) -> Tensor:
    """The pixels of each mask with a 4-neighbor outside it: (N, H, W) bool → (N, H, W) bool."""
    # Padding counts as outside, so an object at the border of the image has an outline there.
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    inner = padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:] & padded[:, 1:-1, :-2]
    return masks & ~inner


def save_sheet(path: Path, sections: Mapping[str, Sequence[Sequence[Panel]]], inches: float = 3.0) -> None:
    """Writes a PNG of rows of titled panels; a title that is wider than its panel loses its middle.

    sections: {heading: rows}; the heading may be empty · inches: side of a panel
    """
    columns = max(len(row) for rows in sections.values() for row in rows)
    # 0.3 inches for the titles of a row, 0.4 for a heading.
    heights = [(inches + 0.3) * len(rows) + (0.4 if heading else 0) for heading, rows in sections.items()]
    figure = Figure(figsize=(inches * columns, sum(heights)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    subfigures = figure.subfigures(len(sections), 1, height_ratios=heights, squeeze=False)[:, 0]
    for subfigure, (heading, rows) in zip(subfigures, sections.items(), strict=True):
        if heading:
            subfigure.suptitle(heading, fontsize=12, fontweight="bold")
        for line, row in zip(subfigure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            for axis in line:
                axis.axis("off")
            for axis, (title, picture) in zip(line, row, strict=False):
                axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
                axis.set_title(shorten(title, int(TITLE_CHARACTERS * inches)), fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
