"""Maps of images of any size, predicted tile by tile."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.data.io.windows import Windows
from sam_ft.data.transforms import resize_image
from sam_ft.types import Size
from sam_ft.utils.geometry import resized_size
from sam_ft.utils.tiles import TileGrid, Window, blend_tiles

# Maps (B, C, m, m) of padded images (B, 3, S, S) uint8, of which the sizes without padding are known.
PredictMaps = Callable[[Tensor, Sequence[Size]], Tensor]


def predict_in_tiles(
    image: Windows, grid: TileGrid, side: int, predict: PredictMaps, batch_size: int = 1
) -> Iterator[NDArray[np.float32]]:
    """Maps of the whole image in bands of rows, see `blend_tiles`: at most two rows of tiles are in memory.

    grid: of the image · side: S, of the model's input · predict: gives values and not logits, as these are averaged
    → (C, rows, W) each
    """
    return blend_tiles(grid, partial(_maps_of_tiles, image, side, predict, batch_size))


def _maps_of_tiles(
    image: Windows, side: int, predict: PredictMaps, batch_size: int, windows: Sequence[Window]
) -> Iterator[NDArray[np.float32]]:
    """(C, h, w) of each tile, in pixels of the image."""
    for start in range(0, len(windows), batch_size):
        tiles = [image.read(rows, columns) for rows, columns in windows[start : start + batch_size]]
        sizes = [(tile.shape[1], tile.shape[2]) for tile in tiles]
        padded, input_sizes = torch.zeros(len(tiles), 3, side, side, dtype=torch.uint8), []
        for place, tile, size in zip(padded, tiles, sizes, strict=True):
            height, width = resized_size(size, side)
            place[:, :height, :width] = resize_image(tile, (height, width))
            input_sizes.append((height, width))
        maps = predict(padded, input_sizes).float().cpu()
        for own, input_size, size in zip(maps, input_sizes, sizes, strict=True):
            yield maps_to_original(own, side, input_size, size).numpy()


def maps_to_original(maps: Tensor, side: int, input_size: Size, size: Size) -> Tensor:
    """Resizes maps over the padded input to the original frame, as `Sam.postprocess` does logits.

    maps: (C, m, m) · side: S · input_size: the part of S x S that is not padding → (C, *size)
    """
    maps = F.interpolate(maps[None], (side, side), mode="bilinear", align_corners=False)
    maps = maps[..., : input_size[0], : input_size[1]]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[0]
