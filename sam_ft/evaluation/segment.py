"""From an image of any size to its instances without prompts, by a model with a head: tiles, then one watershed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_ft.data.io.windows import Windows
from sam_ft.data.sources.run_lengths import RunLengthMasks, encode_crop
from sam_ft.data.tiled import tile_extremes
from sam_ft.evaluation.instances import find_instances, predict_maps
from sam_ft.evaluation.prompted import EncodedImage, encode_images, images_batch
from sam_ft.evaluation.refine import refine_with_decoder
from sam_ft.evaluation.tiled_maps import predict_in_tiles
from sam_ft.instances.bands import segment_bands
from sam_ft.instances.parts import ObjectCrop
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Size
from sam_ft.utils.tiles import TileGrid

BLOCK, HALO = 1024, (256, 1024)  # pixels of a large image: a block, and at least and at most around it
KEPT_TILES = 16  # of an image: their features are kept for the decoder, 4 MB each
ONE_BLOCK = 2**24  # pixels of an image whose maps are held as a whole: 200 MB, three times over


@dataclass(frozen=True)
class SegmentOptions:
    """How the instances of an image are found.

    tile: side in pixels of the image, above which it is cut into tiles; None encodes each image as a whole
    refine: give the box of each instance to the mask decoder, see `refine_with_decoder`
    """

    thresholds: WatershedThresholds = field(default_factory=WatershedThresholds)
    tile: int | None = None
    refine: bool = False

    @classmethod
    def from_notes(cls, metadata: Mapping[str, Any]) -> "SegmentOptions":
        """Those that a run stored in its checkpoint, where it did. metadata: of `load_partial_weights`"""
        thresholds = WatershedThresholds(**(metadata.get("thresholds") or {}))
        return cls(thresholds, metadata.get("tile"), bool(metadata.get("refine")))


def segment_image(
    task: PromptedSegmentation, image: Windows, options: SegmentOptions
) -> tuple[RunLengthMasks, torch.Tensor]:
    """Finds the instances of an image: N masks that do not overlap, and (N,) float32 scores.

    A score is the mean of the foreground map over the object, and refined pred_iou times that. Memory depends on the
    tile and the width of the image, and not on its height, but for a byte a pixel if the objects are refined.

    Raises: ValueError when the model has no head.
    """
    if task.model.head is None:
        raise ValueError("the model has no head, which finds objects without prompts; train with head=instances")
    grid = TileGrid(image.size, options.tile or max(image.size))
    extremes = image_extremes(task, image, grid)
    encoded: list[EncodedImage] = []
    bands = map_bands(task, image, grid, extremes, encoded)
    if image.size[0] * image.size[1] <= ONE_BLOCK:
        masks, scores = find_instances(np.concatenate(list(bands), axis=1), options.thresholds)
    else:
        halo = min(max(grid.tile, HALO[0]), HALO[1])  # training saw no larger objects than a tile
        objects = segment_bands(bands, image.size, options.thresholds, halo, block=max(BLOCK, 2 * halo))
        masks, scores = compress_found(objects, image.size)
    if options.refine:
        return refine_with_decoder(task, image, grid, masks, scores, options.thresholds.min_area, extremes, encoded)
    return masks, scores


def map_bands(
    task: PromptedSegmentation,
    image: Windows,
    grid: TileGrid,
    extremes: torch.Tensor | None,
    encoded: list[EncodedImage] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The maps of the head over an image, as bands of rows from top to bottom: (C, rows, W) each.

    extremes: of `image_extremes` · encoded: receives the features of the tiles, if they are at most `KEPT_TILES`
    """

    def predict(images: torch.Tensor, sizes: Sequence[Size]) -> torch.Tensor:
        batch = images_batch(images, sizes, extremes).to(task.model.device)
        features = encode_images(task, batch)
        if encoded is not None and len(grid) <= KEPT_TILES:
            encoded.extend(EncodedImage(features.image(place), size) for place, size in enumerate(sizes))
        return predict_maps(task, features, batch)

    return predict_in_tiles(image, grid, task.model.image_size, predict, task.chunks.images)


def image_extremes(task: PromptedSegmentation, image: Windows, grid: TileGrid) -> torch.Tensor | None:
    """(2,) the extremes that the model scales all tiles of an image by; None where it is whole or the model has none.

    They need a pass over the tiles of their own.
    """
    if len(grid) == 1 or task.model.normalize != "minmax":
        return None
    return tile_extremes((image.read(*window) for window in grid), task.model.image_size)


def compress_found(objects: Iterable[ObjectCrop], size: Size) -> tuple[RunLengthMasks, torch.Tensor]:
    """Run lengths of the objects of a large image, in their order, and the mean of the foreground map over each.

    objects: in any order; each is compressed at once, so one mask is in memory at a time · size: (H, W) of the image
    → N masks, (N,) float32
    """
    found = sorted((one.order, encode_crop(one.x0, one.y0, one.mask, size), one.foreground) for one in objects)
    return RunLengthMasks([counts for _, counts, _ in found], size), torch.tensor([score for *_, score in found])
