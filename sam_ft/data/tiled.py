"""The tiles of a split's images as a split of its own, for small objects in large images."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_ft.data.datasets import Split
from sam_ft.data.map_targets import paint
from sam_ft.data.mask_crops import crop_masks, select_masks, union_of_masks
from sam_ft.data.sources.survey import Survey
from sam_ft.data.transforms import boxes_of, resize_image
from sam_ft.types import NOTHING_ELSEWHERE, Sample, Size
from sam_ft.utils.geometry import resized_size
from sam_ft.utils.tiles import TileGrid, Window, auto_tile, check_tile

MARK = "@"  # between the name of an image and the place of a tile


class TiledSplit:
    """The tiles of all images of a split, in their order; an image no larger than a tile is one sample, as it is.

    A tile is named NAME@row,column after its first pixel. Labels and `object_index` are those of the image.

    tile, overlap: see `TileGrid`
    min_share: an object is in a tile that holds at least this share of its area, or that is smaller than it; pixels of
        others are ignored there
    extremes_at: the input side of a model that scales each image by its own extremes, see `Sample.extremes`
    once: an object is only in the tile that shows most of it, so that each counts once in an evaluation; the pixels of
        other objects there are `elsewhere`
    """

    def __init__(
        self,
        split: Split,
        tile: int,
        overlap: float = 0.25,
        min_share: float = 0.5,
        once: bool = False,
        extremes_at: int | None = None,
    ) -> None:
        self.split = split
        self.min_share = min_share
        self.once = once
        self.extremes_at = extremes_at
        self.classes: Mapping[int, str] = split.classes
        self.grids = [TileGrid(image_size_of(split, index), tile, overlap) for index in range(len(split))]
        # The image of each tile, and the tile's number in its image.
        self._places = [(image, number) for image, grid in enumerate(self.grids) for number in range(len(grid))]
        self._windows = [list(grid) for grid in self.grids]
        self._extremes: dict[tuple[int, str | None], Tensor] = {}
        self._last: tuple[int, bool, str, Sample] | None = None
        self.names: Sequence[str] = [self._name(*place) for place in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        return self._cut(self._whole(self._places[index][0], with_pixels=True), index)

    def annotations(self, index: int) -> Sample:
        return self._cut(self._whole(self._places[index][0], with_pixels=False), index)

    def fingerprint(self, index: int) -> str | None:
        image, number = self._places[index]
        whole = self.split.fingerprint(image)
        if whole is None or len(self.grids[image]) == 1:
            return whole
        rows, columns = self._windows[image][number]
        grid = "" if self.extremes_at is None else f"|{self.grids[image]}, extremes at {self.extremes_at}"
        return f"{whole}|{rows.start}:{rows.stop},{columns.start}:{columns.stop}{grid}"

    def survey(self) -> Survey:
        """Counts the objects of all tiles; the images have been surveyed before."""
        objects, empty, index = 0, [], 0
        for image, windows in enumerate(self._windows):
            sample = self.split.annotations(image)  # once for all tiles of the image
            for _ in windows:
                found = len(self._cut(sample, index).object_index)
                objects += found
                if not found:
                    empty.append(self.names[index])
                index += 1
        return Survey(len(self), objects, empty, lossy=0)

    def _whole(self, image: int, with_pixels: bool) -> Sample:
        """An image, which is kept for its next tiles as long as its file does not change."""
        now = self.split.fingerprint(image)
        if self._last is not None and now is not None and self._last[:3] == (image, with_pixels, now):
            return self._last[3]
        sample = self.split[image] if with_pixels else self.split.annotations(image)
        if with_pixels and self.extremes_at is not None and len(self._windows[image]) > 1:
            if now is None or (image, now) not in self._extremes:  # all tiles are resized for them
                tiles = (sample.image[:, rows, columns] for rows, columns in self._windows[image])
                self._extremes[image, now] = tile_extremes(tiles, self.extremes_at)
            sample = replace(sample, extremes=self._extremes[image, now])
        self._last = None if now is None else (image, with_pixels, now, sample)
        return sample

    def _name(self, image: int, number: int) -> str:
        rows, columns = self._windows[image][number]
        name = self.split.names[image]
        return name if len(self._windows[image]) == 1 else f"{name}{MARK}{rows.start},{columns.start}"

    def _cut(self, sample: Sample, index: int) -> Sample:
        image, number = self._places[index]
        if len(self.grids[image]) == 1:
            return sample
        window = self._windows[image][number]
        if not self.once:
            return replace(crop_sample(sample, window, self.min_share), name=self.names[index])
        best = self._best_tiles(sample, image)
        mine, others = (torch.nonzero(chosen).flatten() for chosen in (best == number, best != number))
        own = replace(
            sample,
            masks=select_masks(sample.masks, mine),
            labels=sample.labels[mine],
            object_index=sample.object_index[mine],
        )
        cut = crop_sample(own, window, min_share=0)
        there, _ = crop_masks(select_masks(sample.masks, others), window)
        labels = torch.cat([torch.tensor([NOTHING_ELSEWHERE]), sample.labels[others]])
        elsewhere = labels[torch.from_numpy(paint(there, cut.size)).long()]
        elsewhere[union_of_masks(cut.masks, cut.size)] = NOTHING_ELSEWHERE
        return replace(cut, name=self.names[index], elsewhere=elsewhere)

    def _best_tiles(self, sample: Sample, image: int) -> Tensor:
        """(N,) the tile that shows most of each object's box, or most of its pixels where it shows none."""
        boxes = boxes_of(sample)
        best = torch.from_numpy(self.grids[image].best_tiles(boxes.numpy()))
        windows = self._windows[image]
        for position in range(len(best)):
            rows, columns = windows[int(best[position])]
            x0, y0, x1, y1 = boxes[position].tolist()
            if x0 >= columns.start and x1 <= columns.stop and y0 >= rows.start and y1 <= rows.stop:
                continue
            one = select_masks(sample.masks, torch.tensor([position]))
            if crop_masks(one, windows[int(best[position])])[1] == 0:
                best[position] = max(range(len(windows)), key=lambda number: float(crop_masks(one, windows[number])[1]))
        return best


def resolve_tile(tile: int | str | None, split: Split, image_size: int) -> int:
    """The side of the tiles of a split: without tiles the longest side of its images, so that none of them is cut.

    tile: pixels of the files, "auto" for `auto_tile` of the split's objects, or None
    split: for training · image_size: S of the model

    Raises: ConfigError when it has another value.
    """
    if tile is None:
        return max(max(image_size_of(split, index)) for index in range(len(split)))
    check_tile("data.tile", tile)
    if isinstance(tile, int):
        return tile
    short_sides, longest_sides = [np.zeros(0)], []
    for index in range(len(split)):
        sample = split.annotations(index)
        x0, y0, x1, y1 = boxes_of(sample).numpy().T
        short_sides.append(np.minimum(x1 - x0, y1 - y0))
        longest_sides.append(max(sample.size))
    return auto_tile(np.concatenate(short_sides), longest_sides, image_size)


def image_of_tile(name: str) -> str:
    """The name of the image of which a sample is a tile."""
    return re.sub(rf"{MARK}\d+,\d+$", "", name)


def image_size_of(split: Any, index: int) -> Size:
    """The size of an image, by its header where the split has `size(index)`."""
    return split.size(index) if hasattr(split, "size") else split.annotations(index).size


def crop_sample(sample: Sample, window: Window, min_share: float) -> Sample:
    """A window of a sample; pixels of objects with less than `min_share` of their area in it are ignored.

    Objects without a pixel in the window are left out. Of one that is larger than the window, such as all pixels of a
    class, no window shows enough: each part of it counts.
    """
    rows, columns = window
    size = (rows.stop - rows.start, columns.stop - columns.start)
    masks, shares = crop_masks(sample.masks, window)
    kept = (shares > 0) & (shares >= min_share)
    cut = (shares > 0) & ~kept
    if cut.any():
        x0, y0, x1, y1 = boxes_of(sample).T
        larger = cut & ((x1 - x0 > size[1]) | (y1 - y0 > size[0]))
        kept, cut = kept | larger, cut & ~larger
    positions = torch.nonzero(kept).flatten()
    own = select_masks(masks, positions)
    ignore = None if sample.ignore is None else sample.ignore[window].clone()
    if cut.any():
        rest = union_of_masks(select_masks(masks, torch.nonzero(cut).flatten()), size) & ~union_of_masks(own, size)
        ignore = rest if ignore is None else ignore | rest
    return replace(
        sample,
        image=sample.image[:, rows, columns].clone() if sample.image.numel() else sample.image,
        masks=own,
        labels=sample.labels[positions],
        object_index=sample.object_index[positions],
        boxes=None,
        size=size,
        ignore=ignore if ignore is not None and ignore.any() else None,
    )


def tile_extremes(tiles: Iterable[Tensor], side: int) -> Tensor:
    """The smallest and the largest value of an image at the input side of its tiles, for `Sam.preprocess`.

    tiles: (3, h, w) uint8 each, of one image · side: of the model's input → (2,) float32
    """
    low, high = 255, 0
    for tile in tiles:
        resized = resize_image(tile, resized_size((tile.shape[1], tile.shape[2]), side))
        low, high = min(low, int(resized.min())), max(high, int(resized.max()))
    return torch.tensor([low, high], dtype=torch.float32)
