"""The objects of each class in an image whose class probabilities arrive in bands of rows."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam_ft.instances.parts import ComponentNumbers, ObjectCrop, ObjectParts, collect_parts, renumber_parts

EIGHT = np.ones((3, 3), bool)  # neighbors of a pixel in a component, as in the masks that training reads


def segment_class_bands(
    bands: Iterable[NDArray[np.float32]], components: bool, min_area: int = 0
) -> Iterator[tuple[int, ObjectCrop]]:
    """Gives each pixel its most likely channel, and yields the objects of each channel but 0, the background.

    bands: (C, rows, W) probabilities, from top to bottom
    components: each connected component of a channel is an object; else all of its pixels are one
    min_area: pixels of a component; smaller ones are left out
    → channels and objects, whose `foreground` is the mean probability of their channel
    """
    collected: dict[int, _ClassObjects] = {}
    top = 0
    for maps in bands:
        channels, probability = maps.argmax(axis=0), maps.max(axis=0)
        # A channel of the band above takes part, to end its objects.
        for channel in sorted({*np.unique(channels).tolist(), *collected} - {0}):
            own = collected.setdefault(channel, _ClassObjects(components))
            for one in own.add(channels == channel, probability, top):
                if not components or one.mask.sum() >= min_area:
                    yield channel, one
        top += maps.shape[1]
    for channel, own in sorted(collected.items()):
        for one in own.rest():
            if not components or one.mask.sum() >= min_area:
                yield channel, one


class _ClassObjects:
    """The objects of one class, which begin in one band and may end in another."""

    def __init__(self, components: bool) -> None:
        self.components = components
        self._numbers = ComponentNumbers()
        self._objects: dict[int, ObjectParts] = {}
        self._above: NDArray[np.int32] | None = None  # numbers of the last row

    def add(self, mask: NDArray[np.bool_], probability: NDArray[np.float32], top: int) -> Iterator[ObjectCrop]:
        """Adds a band: (rows, W) each, from row `top`; → the objects that end above its last row"""
        if not self.components:
            collect_parts(self._objects, mask.astype(np.int32), probability, top)
            return
        # With the last row of the band before it: components that go on are joined there.
        above = np.zeros(mask.shape[1], np.int32) if self._above is None else self._above
        labels, _ = ndimage.label(np.concatenate([above[None] > 0, mask]), EIGHT)
        ids = self._numbers.add(labels, above)[1:]
        self._above = ids[-1]
        self._objects = renumber_parts(self._objects, self._numbers)
        ids = self._numbers.first(ids)
        collect_parts(self._objects, ids, probability, top)
        for number in sorted(self._objects.keys() - set(np.unique(ids[-1]).tolist())):
            yield self._objects.pop(number).join(number)

    def rest(self) -> Iterator[ObjectCrop]:
        """The objects that reach the last row."""
        for number in sorted(self._objects):
            yield self._objects.pop(number).join(number)
