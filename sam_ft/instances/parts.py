"""Objects of an image that arrives in bands of rows: their pixels so far, and numbers that follow them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class ObjectCrop:
    """An object of an image within its box.

    order: objects ascend by it as the ids of `segment_maps` do; some numbers are left out
    x0, y0: of the first pixel of the box · mask: (h, w) bool · foreground: mean of this map over the object
    """

    order: int
    x0: int
    y0: int
    mask: NDArray[np.bool_]
    foreground: float


@dataclass
class ObjectParts:
    """The pixels of an object so far: boxes with their first row and column."""

    crops: list[tuple[int, int, NDArray[np.bool_]]] = field(default_factory=list)
    area: int = 0
    foreground: float = 0.0  # sum over the pixels

    def add(self, other: "ObjectParts") -> None:
        self.crops += other.crops
        self.area += other.area
        self.foreground += other.foreground

    def join(self, order: int) -> ObjectCrop:
        y0, x0 = min(top for top, _, _ in self.crops), min(left for _, left, _ in self.crops)
        y1 = max(top + crop.shape[0] for top, _, crop in self.crops)
        x1 = max(left + crop.shape[1] for _, left, crop in self.crops)
        mask = np.zeros((y1 - y0, x1 - x0), bool)
        for top, left, crop in self.crops:
            mask[top - y0 : top - y0 + crop.shape[0], left - x0 : left - x0 + crop.shape[1]] |= crop
        return ObjectCrop(order, x0, y0, mask, self.foreground / self.area)


def collect_parts(
    objects: dict[int, ObjectParts], ids: NDArray[np.int32], foreground: NDArray[np.float32], start: int
) -> None:
    """Adds the pixels of a band to their objects.

    ids, foreground: (rows, W) of the band · start: its first row
    """
    if not ids.any():
        return
    # find_objects takes time by the highest number.
    least = int(ids[ids > 0].min())
    for number, box in enumerate(ndimage.find_objects(np.where(ids > 0, ids - least + 1, 0)), least):
        if box is None:
            continue
        mask = ids[box] == number
        crop = (start + box[0].start, box[1].start, mask)
        total = float(foreground[box][mask].sum(dtype=np.float64))
        objects.setdefault(number, ObjectParts()).add(ObjectParts([crop], int(mask.sum()), total))


class ComponentNumbers:
    """Numbers of the components of the whole image, of which some rows are labeled at a time.

    A component that goes on in the next rows has a number in each; all of them are joined under the smallest.
    """

    def __init__(self) -> None:
        self._first = np.zeros(1, np.int32)  # of each number the smallest of its component
        self._joined: list[int] = []  # numbers that are not the smallest

    def add(self, labels: NDArray[np.int32], above: NDArray[np.int32]) -> NDArray[np.int32]:
        """Numbers for further rows.

        labels: (rows, W) from 1 · above: (W,) the numbers of the row before them
        """
        offset = len(self._first) - 1
        self._first = np.append(self._first, np.arange(offset + 1, offset + 1 + labels.max(), dtype=np.int32))
        numbers = np.where(labels > 0, labels + np.int32(offset), np.int32(0))
        touching = np.stack([above, numbers[0]])[:, (above > 0) & (numbers[0] > 0)]
        for pair in np.unique(touching, axis=1).T.tolist():
            low, high = sorted(map(self._find, pair))
            if low < high:
                self._first[high] = low
                self._joined.append(high)
        for number in self._joined:  # so that `first` needs one look-up
            self._first[number] = self._find(number)
        return numbers

    def first(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """The smallest number of the component of each."""
        return self._first[numbers]

    def _find(self, number: int) -> int:
        while (lower := int(self._first[number])) < number:
            number = lower
        return number


def renumber_parts(objects: dict[int, ObjectParts], numbers: ComponentNumbers) -> dict[int, ObjectParts]:
    """The objects by the smallest numbers of their components, some of which have been joined since."""
    renumbered: dict[int, ObjectParts] = {}
    for number, parts in objects.items():
        renumbered.setdefault(int(numbers.first(np.array(number))), ObjectParts()).add(parts)
    return renumbered
