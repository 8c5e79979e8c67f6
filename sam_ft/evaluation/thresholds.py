"""The options of `segment_image` that suit a trained head, found on training images."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from tqdm import tqdm

from sam_ft.data.datasets import Samples, Split
from sam_ft.data.io.windows import ArrayWindows, Windows
from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.data.tiled import crop_sample, image_size_of
from sam_ft.evaluation.instances import ImageMaps, compress_gt, find_instances
from sam_ft.evaluation.prompted import EncodedImage
from sam_ft.evaluation.refine import refine_with_decoder
from sam_ft.evaluation.segment import SegmentOptions, image_extremes, map_bands
from sam_ft.evaluation.without_prompts import pixels
from sam_ft.instances.search import candidates_for, search_thresholds
from sam_ft.instances.watershed import WatershedThresholds, segment_maps
from sam_ft.metrics.segmentation_accuracy import SegmentationAccuracy
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Sample
from sam_ft.utils import distributed
from sam_ft.utils.tiles import TileGrid

# Every candidate runs a watershed on all images, some 40 times: about 2 minutes of one core for so many pixels.
MAX_IMAGES, MAX_PIXELS = 32, 2**23
REFINED_IMAGES = 16  # on which the decoder is tried: it decodes each object


def choose_images(split: Split, images: Sequence[int]) -> list[int]:
    """Some images of a split, drawn by a fixed seed: few enough for a search, and at least one.

    images: positions to choose from → ascending
    """
    chosen: list[int] = []
    pixels_so_far = 0
    for place in torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MAX_IMAGES].tolist():
        height, width = image_size_of(split, images[place])
        if chosen and pixels_so_far + height * width > MAX_PIXELS:
            continue
        pixels_so_far += height * width
        chosen.append(images[place])
    return sorted(chosen)


def find_options(
    task: PromptedSegmentation, split: Split, images: Sequence[int], tile: int
) -> tuple[SegmentOptions, dict[str, float]]:
    """The options of the best mSA: thresholds, and whether the decoder refines what the head finds.

    images: of `choose_images` · tile: side in pixels, see `SegmentOptions`
    → the options, and {"head", "refined"}: the mSA without and with the decoder on up to `REFINED_IMAGES` of the images
    """
    some = images[:: -(-len(images) // REFINED_IMAGES)]
    names = {split.names[index] for index in some}
    maps, decoded = [], []  # of all of them, and of some with what the decoder needs
    for own, tiles in maps_in_tiles(task, CroppedSplit(split), images, tile):
        maps.append(own)
        if own.name in names:
            decoded.append((own, tiles))
    thresholds, _ = find_thresholds(maps)
    head = score_maps([own for own, _ in decoded], thresholds)
    refined = score_refined(task, decoded, thresholds)
    return SegmentOptions(thresholds, tile, refine=refined > head), {"head": head, "refined": refined}


class CroppedSplit:
    """The samples of a split; of an image above `MAX_PIXELS` the square in its middle, so that a search ends."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.names = split.names

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Sample:
        sample, side = self.split[index], int(MAX_PIXELS**0.5)
        if sample.size[0] * sample.size[1] <= MAX_PIXELS:
            return sample
        rows, columns = (slice(max(0, (n - side) // 2), min(n, (n + side) // 2)) for n in sample.size)
        return crop_sample(sample, (rows, columns), min_share=0.5)


class EncodedTiles(NamedTuple):
    """What the decoder needs of an image in tiles, see `refine_with_decoder`."""

    image: Windows
    grid: TileGrid
    extremes: Tensor | None
    encoded: list[EncodedImage]


@torch.no_grad()
def maps_in_tiles(
    task: PromptedSegmentation, split: Samples, images: Sequence[int], tile: int
) -> Iterator[tuple[ImageMaps, EncodedTiles]]:
    """The maps of a process's share of some images of a split, as `segment_image` predicts them."""
    # As in `evaluate_head`: features are not rounded as in a cache.
    task = PromptedSegmentation(task.model, precision=task.precision)
    share = images[distributed.rank() :: distributed.world_size()]
    for index in tqdm(share, "maps", leave=False, disable=None if distributed.is_main() else True):
        sample = split[index]
        image = ArrayWindows(pixels(sample))
        grid = TileGrid(image.size, tile)
        tiles = EncodedTiles(image, grid, image_extremes(task, image, grid), [])
        maps = np.concatenate(list(map_bands(task, image, grid, tiles.extremes, tiles.encoded)), axis=1)
        yield ImageMaps(sample.name, maps, compress_gt(sample.masks, sample.size), sample.ignore), tiles


def find_thresholds(images: Sequence[ImageMaps]) -> tuple[WatershedThresholds, float]:
    """Searches the thresholds of the best mSA on the images of all processes.

    → the thresholds, the same on all processes, and that mSA
    """
    areas = distributed.all_gather([int(area) for image in images if image.gt for area in coco_mask.area(image.gt)])
    return search_thresholds(partial(score_maps, images), candidates_for(areas))


def score_maps(images: Sequence[ImageMaps], thresholds: WatershedThresholds) -> float:
    """The mSA of the objects in the maps of all processes."""
    accuracy = SegmentationAccuracy()
    for image in images:
        found = compress_ids(segment_maps(image.maps, thresholds)).rles()
        accuracy.update(image.name, found, image.gt, image.ignore)
    return accuracy.compute()["msa"]


def score_refined(
    task: PromptedSegmentation, images: Sequence[tuple[ImageMaps, EncodedTiles]], thresholds: WatershedThresholds
) -> float:
    """As `score_maps`, of what the decoder makes of these objects."""
    accuracy = SegmentationAccuracy()
    for image, tiles in tqdm(images, "refined", leave=False, disable=None if distributed.is_main() else True):
        masks, scores = find_instances(image.maps, thresholds)
        refined, _ = refine_with_decoder(
            task, tiles.image, tiles.grid, masks, scores, thresholds.min_area, tiles.extremes, tiles.encoded
        )
        accuracy.update(image.name, refined.rles(), image.gt, image.ignore)
    return accuracy.compute()["msa"]
