"""A model with the image that is open; the features of the windows that were prompted last are kept."""

from collections import OrderedDict

import torch

from sam_ft.data.io.windows import Windows
from sam_ft.evaluation.found import FoundObjects, find_by_grid, find_by_head
from sam_ft.evaluation.prompted import DecodedObject, EncodedImage, decode_prompts, encode_window
from sam_ft.evaluation.segment import SegmentOptions, image_extremes
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prompts
from sam_ft.utils.tiles import TileGrid, Window

KEPT_WINDOWS = 16  # of an image, 4 MB of features each


class Segmenter:
    """Predicts masks in one image, in the tiles of predict.py.

    options: those of a head, and the tile of all predictions
    """

    def __init__(self, task: PromptedSegmentation, options: SegmentOptions) -> None:
        self.task, self.options = task, options
        self.image: Windows | None = None

    @property
    def has_classes(self) -> bool:
        """Whether the head predicts the class of each pixel."""
        return isinstance(self.task.model.head, SemanticHead)

    def open(self, image: Windows) -> None:
        """Sets the image of the next predictions; a window of it is encoded when a prompt first lies there."""
        self._grid = TileGrid(image.size, self.options.tile or max(image.size))
        self._extremes = image_extremes(self.task, image, self._grid)
        self._kept: OrderedDict[tuple[int, ...], EncodedImage] = OrderedDict()
        self.image = image

    def predict(self, prompts: Prompts) -> DecodedObject | None:
        """The mask of one object; None where it is empty. prompts: of one object, in pixels of the image"""
        assert self.image is not None
        found = decode_prompts(self.task, self.image, self._grid, prompts, self._extremes, encode=self._encode)
        return next(iter(found), None)

    def find_all(self, points_per_side: int) -> FoundObjects:
        """All objects, by the head, or without one by SAM's grid of points."""
        assert self.image is not None
        if self.task.model.head is None:
            return find_by_grid(self.task, points_per_side, self.image, "the image")
        return find_by_head(self.task, self.options, self.image, "the image")

    def _encode(
        self, task: PromptedSegmentation, image: Windows, window: Window, extremes: torch.Tensor | None
    ) -> EncodedImage:
        """`encode_window`, once for each window."""
        key = tuple(edge for span in window for edge in (span.start, span.stop))
        if key not in self._kept:
            self._kept[key] = encode_window(task, image, window, extremes)
            if len(self._kept) > KEPT_WINDOWS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
