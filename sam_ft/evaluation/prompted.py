"""Masks of objects in an image of any size from their prompts, each decoded in the tile that shows it."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.windows import Windows
from sam_ft.data.transforms import resize_image
from sam_ft.prompts import scale_prompts
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch, Features, Prompts, Size
from sam_ft.utils.cpu_kernels import areas
from sam_ft.utils.geometry import fit_boxes, masks_to_boxes, resized_size
from sam_ft.utils.tiles import TileGrid, Window

AROUND = 1.5  # longer sides of an object that no tile shows whole: the side of the window in which it is decoded
PIXELS_PER_PASS = 2**25  # of masks in the frame of the image, held a few times over


class DecodedObject(NamedTuple):
    """A mask within its box, which is not empty.

    position: of its prompts · x0, y0: of the first pixel of the box in the image · mask: (h, w) bool
    """

    position: int
    x0: int
    y0: int
    mask: NDArray[np.bool_]
    pred_iou: float


class EncodedImage(NamedTuple):
    """features: of one image · input_size: its size in the input frame"""

    features: Features
    input_size: Size


def encode_window(
    task: PromptedSegmentation, image: Windows, window: Window, extremes: Tensor | None = None
) -> EncodedImage:
    """The features of a part of an image."""
    pixels, side = image.read(*window), task.model.image_size
    height, width = resized_size((pixels.shape[1], pixels.shape[2]), side)
    padded = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    padded[0, :, :height, :width] = resize_image(pixels, (height, width))
    batch = images_batch(padded, [(height, width)], extremes)
    return EncodedImage(encode_images(task, batch.to(task.model.device)), (height, width))


def decode_prompts(
    task: PromptedSegmentation,
    image: Windows,
    grid: TileGrid,
    prompts: Prompts,
    extremes: Tensor | None = None,
    encoded: Sequence[EncodedImage] = (),
    encode: Callable[[PromptedSegmentation, Windows, Window, Tensor | None], EncodedImage] = encode_window,
) -> Iterator[DecodedObject]:
    """Decodes N prompts, each in the tile that shows it whole; those that no tile does, each in a window around it.

    prompts: boxes, or points with labels, or both, in pixels of the image
    extremes: (2,) of the tiles, see `Sample.extremes` · encoded: the tiles, if they were encoded before
    encode: gives the features of windows that are not among them
    → tile by tile; objects whose mask is empty are left out
    """
    windows = list(grid)
    extents = _extents(prompts)
    places = torch.from_numpy(grid.best_tiles(extents.numpy()))
    if len(grid) > 1:
        shown = torch.tensor([[c.start, r.start, c.stop, r.stop] for r, c in windows])[places]
        inside = fit_boxes(extents, [image.size] * len(extents)) if len(extents) else extents
        outside = (inside[:, :2] < shown[:, :2]).any(1) | (inside[:, 2:] > shown[:, 2:]).any(1)
        for position in torch.nonzero(outside).flatten().tolist():
            places[position] = len(windows)
            windows.append(_window_around(inside[position].tolist(), image.size, grid.tile))
    for place in places.unique().tolist():
        members = torch.nonzero(places == place).flatten()
        known = place < len(encoded)  # windows around objects come after the tiles
        own = encoded[place] if known else encode(task, image, windows[place], extremes)
        yield from _decode_window(task, own, windows[place], prompts, members)


def images_batch(images: Tensor, sizes: Sequence[Size], extremes: Tensor | None = None) -> Batch:
    """A batch without objects: images (B, 3, S, S) uint8 · extremes: (2,) of all of them, see `Batch.extremes`"""
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        images=images,
        features=None,
        masks=torch.zeros(0, *images.shape[-2:], dtype=torch.bool),
        boxes=torch.zeros(0, 4),
        labels=none,
        object_index=none,
        image_index=none,
        names=[""] * len(images),
        sizes=list(sizes),
        extremes=None if extremes is None else extremes.expand(len(images), 2),
    )


@torch.no_grad()
def encode_images(task: PromptedSegmentation, batch: Batch) -> Features:
    """The features of a batch on the model's device."""
    return task.encode(batch)


@torch.no_grad()
def _decode_window(
    task: PromptedSegmentation, encoded: EncodedImage, window: Window, prompts: Prompts, members: Tensor
) -> Iterator[DecodedObject]:
    features, input_size = encoded
    rows, columns = window
    size = (rows.stop - rows.start, columns.stop - columns.start)
    origin = torch.tensor([columns.start, rows.start])
    chunk = min(task.chunks.predict(size), max(1, PIXELS_PER_PASS // (size[0] * size[1])))
    for part in members.split(chunk):
        own = Prompts(
            boxes=None if prompts.boxes is None else prompts.boxes[part] - origin.repeat(2),
            points=None if prompts.points is None else prompts.points[part] - origin,
            point_labels=None if prompts.point_labels is None else prompts.point_labels[part],
        )
        own = scale_prompts(own, size, input_size).to(task.model.device)
        index = torch.zeros(len(part), dtype=torch.int64, device=task.model.device)
        with task.autocast():
            best = task.model.decode(features, own, index, own.ambiguous).best()
        masks = (task.model.postprocess(best.logits.float(), input_size, size)[:, 0] > 0).cpu()
        boxes, pred_iou = masks_to_boxes(masks).int().tolist(), best.pred_iou[:, 0].float().tolist()
        pixels = areas(masks).tolist()
        for position, mask, (x0, y0, x1, y1), score, area in zip(
            part.tolist(), masks.numpy(), boxes, pred_iou, pixels, strict=True
        ):
            if area:
                # A copy, so that the masks of the whole window are not kept.
                crop = mask[y0:y1, x0:x1].copy()
                yield DecodedObject(position, columns.start + x0, rows.start + y0, crop, score)


def _window_around(box: Sequence[float], size: Size, tile: int) -> Window:
    """A square around a box x0, y0, x1, y1, at least as large as a tile, moved into the image and cut off there."""
    x0, y0, x1, y1 = box
    side = max(tile, math.ceil(AROUND * max(x1 - x0, y1 - y0)))

    def span(center: float, length: int) -> slice:
        start = min(max(round(center - side / 2), 0), max(length - side, 0))
        return slice(start, min(start + side, length))

    return span((y0 + y1) / 2, size[0]), span((x0 + x1) / 2, size[1])


def _extents(prompts: Prompts) -> Tensor:
    """(N, 4) float32: the boxes, or those round the points."""
    if prompts.boxes is not None:
        return prompts.boxes
    assert prompts.points is not None
    return torch.cat([prompts.points.amin(dim=1), prompts.points.amax(dim=1)], dim=1)
