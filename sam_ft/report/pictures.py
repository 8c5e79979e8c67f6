"""Pictures of prompts, truth and predictions, at the images' original size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from sam_ft.types import Prompts
from sam_ft.utils.files import atomic_path

Panel = tuple[str, Tensor]  # title, (3, H, W) uint8
DPI = 110

# without its gray, which on a gray image looks like nothing at all
_COLOURS = [tuple(round(255 * c) for c in colormaps["tab10"](i)[:3]) for i in range(10) if i != 7]
_POINT_COLOURS = {1: (40, 200, 40), 0: (230, 40, 40)}  # of the object, of the background; padding is not drawn


def readable(image: Tensor) -> Tensor:
    """The image (3, H, W) uint8, brightened for the eye alone where it is so dark that little could be seen.

    Where 99 % of all values lie below 100, what is between the 1st and the 99th percentile of the three channels
    together is stretched to 0..255. Fluorescence microscopy is like that; the model sees the image as it is.
    """
    low, high = np.percentile(image.numpy(), (1, 99))
    if high >= 100:
        return image
    return ((image - low) * (255 / max(1.0, high - low))).clamp(0, 255).round().to(torch.uint8)


def with_prompts(image: Tensor, groups: Sequence[tuple[Tensor, Prompts]]) -> Tensor:
    """The image (3, H, W) uint8 with the boxes and points of all objects drawn, whose frame is the image's.

    groups: (n,) the ranks of some objects, and their prompts
    A box has the color that `with_masks` gives the object; points of objects are green, those of the background red.
    """
    width = max(1, round(max(image.shape[-2:]) / 400))
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pen = ImageDraw.Draw(picture)
    for ranks, prompts in groups:
        if prompts.boxes is not None:
            corners = prompts.boxes.cpu().round().to(torch.int64)
            corners[:, 2:] = torch.maximum(corners[:, 2:] - 1, corners[:, :2])  # the last pixel inside, for drawing
            for box, rank in zip(corners.tolist(), ranks.tolist(), strict=True):
                pen.rectangle(box, outline=_COLOURS[rank % len(_COLOURS)], width=width)
        if prompts.points is not None and prompts.point_labels is not None:
            labels = prompts.point_labels.flatten().tolist()
            for (x, y), label in zip(prompts.points.flatten(0, 1).tolist(), labels, strict=True):
                if label in _POINT_COLOURS:
                    reach = 2 * width
                    spot = (x - reach, y - reach, x + reach, y + reach)
                    pen.ellipse(spot, fill=_POINT_COLOURS[label], outline=(255, 255, 255))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def with_masks(image: Tensor, masks: Tensor, alpha: float = 0.35) -> Tensor:
    """The image (3, H, W) uint8 with masks (N, H, W) bool dihedral over it, one color each, their outlines solid.

    Where masks overlap their colors mix (torchvision's drawing leaves black there).
    """
    picture = image.float()
    for mask, outline, color in zip(masks, outlines(masks), _colors(len(masks)), strict=True):
        paint = torch.tensor(color, dtype=torch.float32)[:, None, None]
        picture = torch.where(mask, (1 - alpha) * picture + alpha * paint, picture)
        picture = torch.where(outline, paint, picture)
    return picture.round().to(torch.uint8)


def outlines(masks: Tensor) -> Tensor:
    """(N, H, W) bool: the pixels of each mask that touch a pixel outside it, above, below, left or right."""
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    inner = padded[:, 2:, 1:-1] & padded[:, :-2, 1:-1] & padded[:, 1:-1, 2:] & padded[:, 1:-1, :-2]
    return masks & ~inner


def save_sheet(path: Path, parts: Mapping[str, Sequence[Sequence[Panel]]], inches: float = 3.0) -> None:
    """Writes a PNG with one row of titled panels under the other.

    parts: rows under their heading, which may be empty
    """
    columns = max(len(row) for rows in parts.values() for row in rows)
    heights = [(inches + 0.3) * len(rows) + (0.4 if heading else 0) for heading, rows in parts.items()]
    figure = Figure(figsize=(inches * columns, sum(heights)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)  # no display, no global state
    sheets = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for sheet, (heading, rows) in zip(sheets, parts.items(), strict=True):
        if heading:
            sheet.suptitle(heading, fontsize=12, fontweight="bold")
        for line, row in zip(sheet.subplots(len(rows), columns, squeeze=False), rows, strict=True):
            for axis in line:
                axis.axis("off")
            for axis, (title, picture) in zip(line, row, strict=False):
                axis.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
                axis.set_title(title, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _colors(count: int) -> list[tuple[int, ...]]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
