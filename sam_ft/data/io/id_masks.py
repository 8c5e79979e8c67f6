"""The masks of an image's objects as a few id maps, which take little memory however many objects there are."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_ft.types import TensorFields


@dataclass
class IdMasks(TensorFields):
    """The masks of N objects, each a value in one of L id maps; a `types.Masks`.

    layers: L maps (H, W) of integers; uint16 is stored as int16, and uint32 as int32, with the same bits
    layer_of: (N,) int64 the map of each object · ids: (N,) int64 its value there
    """

    layers: tuple[Tensor, ...]
    layer_of: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, positions: Tensor) -> Tensor:
        """(n,) int64 positions → (n, H, W) bool"""
        layer_of, ids = self.layer_of[positions], self.ids[positions]
        if len(self.layers) == 1:
            return _equal(self.layers[0], ids)
        masks = torch.empty(len(ids), *self.layers[0].shape, dtype=torch.bool, device=ids.device)
        for number, layer in enumerate(self.layers):
            own = torch.nonzero(layer_of == number).flatten()
            masks[own] = _equal(layer, ids[own])
        return masks

    @cached_property
    def areas(self) -> Tensor:
        """(N,) int64 pixels of each object; on a CPU only."""
        areas = torch.zeros(len(self), dtype=torch.int64)
        for number, layer in enumerate(self.layers):
            own = self.layer_of == number
            counts = np.bincount(_unsigned(layer).ravel(), minlength=int(self.ids.max()) + 1 if len(self) else 0)
            areas[own] = torch.from_numpy(counts)[self.ids[own]]
        return areas

    def boxes(self) -> Tensor:
        """(N, 4) as `masks_to_boxes` gives them, without the masks; on a CPU only."""
        boxes = torch.empty(len(self), 4)
        for number, layer in enumerate(self.layers):
            own = torch.nonzero(self.layer_of == number).flatten()
            boxes[own] = torch.from_numpy(_boxes_of_ids(_unsigned(layer))[self.ids[own].numpy()])
        return boxes

    def positions(self) -> NDArray[np.int32]:
        """(H, W) the position of the object at each pixel, -1 for none, of masks in a single map; on a CPU only."""
        (layer,) = self.layers
        values = _unsigned(layer)
        ids = self.ids.numpy()
        if not len(ids):
            return np.full(values.shape, -1, np.int32)
        order = ids.argsort()
        place = np.searchsorted(ids, values, sorter=order).clip(max=len(ids) - 1)
        return np.where(ids[order[place]] == values, order[place], -1).astype(np.int32)


class IdLayers:
    """Collects the id maps of one or several mask files of an image, which may overlap.

    The objects of a further file are drawn into the first map where they cover no object, so hundreds of files with an
    object each take a few maps.
    """

    def __init__(self) -> None:
        self._layers: list[NDArray[np.integer]] = []
        self._ids: list[NDArray[np.int64]] = []  # of each file
        self._layer_of: list[NDArray[np.int64]] = []

    def add(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Adds a map (H, W), 0 for the background, and returns its ids in ascending order."""
        found = np.flatnonzero(np.bincount(ids.ravel())[1:]) + 1
        number, own_ids = self._draw(ids, found) if self._layers else self._append(ids, found)
        self._ids.append(own_ids)
        self._layer_of.append(np.full(len(found), number, np.int64))
        return found

    def _append(self, ids: NDArray[np.integer], found: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        # Small values: comparing takes time by the byte.
        self._layers.append(np.ascontiguousarray(ids.astype(np.min_scalar_type(found.max(initial=0)), copy=False)))
        return len(self._layers) - 1, found

    def _draw(self, ids: NDArray[np.integer], found: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        covered = ids > 0
        for number, layer in enumerate(self._layers):
            if layer[covered].any():
                continue
            # Numbered on after the largest id of the map.
            first = int(layer.max()) + 1
            if (last := first + len(found) - 1) > np.iinfo(layer.dtype).max:
                layer = self._layers[number] = layer.astype(np.min_scalar_type(last))
            layer[covered] = first + np.searchsorted(found, ids[covered])
            return number, first + np.arange(len(found))
        return self._append(ids, found)

    def masks(self) -> IdMasks:
        """The objects of all files, in order."""
        return IdMasks(
            tuple(torch.from_numpy(layer.view(_signed(layer.dtype))) for layer in self._layers),
            torch.from_numpy(np.concatenate(self._layer_of)),
            torch.from_numpy(np.concatenate(self._ids)),
        )

    def union(self) -> NDArray[np.bool_]:
        """(H, W), true where any object is."""
        return np.logical_or.reduce([layer > 0 for layer in self._layers])


def _unsigned(layer: Tensor) -> NDArray[np.unsignedinteger]:
    """The values of a map, whose bits are stored as signed ones."""
    return layer.numpy().view(f"u{layer.itemsize}")


def _signed(dtype: np.dtype) -> np.dtype:
    """torch compares few unsigned types; equal values have equal bits in the signed one."""
    return np.dtype(dtype if dtype == np.uint8 else f"i{dtype.itemsize}")


def _boxes_of_ids(layer: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
    """(H, W) → (max + 1, 4): x0, y0, x1, y1 of each id; x1, y1 one past the last pixel."""
    height, width = layer.shape
    # Runs of equal pixels in a row: far fewer than pixels.
    starts = np.ones(layer.shape, bool)
    starts[:, 1:] = layer[:, 1:] != layer[:, :-1]
    y, x = np.nonzero(starts)
    end = np.append(x[1:], 0)
    end[end == 0] = width  # the next run begins a row
    ids = layer[y, x]
    boxes = np.zeros((int(ids.max(initial=0)) + 1, 4), np.float32)
    boxes[:, :2] = width, height
    for column, values, extreme in (
        (0, x, np.minimum),
        (1, y, np.minimum),
        (2, end, np.maximum),
        (3, y + 1, np.maximum),
    ):
        extreme.at(boxes[:, column], ids, values.astype(np.float32))
    return boxes


def _equal(layer: Tensor, ids: Tensor) -> Tensor:
    """(H, W) integers, (n,) int64 → (n, H, W) bool"""
    ids = ids.to(layer.dtype)[:, None, None]  # wraps around where the layer's values have the bits of unsigned ones
    if layer.device.type == "cpu":  # NumPy takes a tenth of torch's time
        return torch.from_numpy(layer.numpy() == ids.numpy())
    return layer == ids
