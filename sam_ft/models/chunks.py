"""How many images and objects pass through a model at once: as many as fit into the free memory of its GPU."""

from typing import NamedTuple

import torch

from sam_ft.models.build import SPECS
from sam_ft.models.sam import Sam
from sam_ft.types import Size
from sam_ft.utils.memory import free_gpu_bytes

SHARE = 0.5  # of the free memory for one pass; the rest is for other losses and prompts, and for gaps
MOST_OBJECTS, MOST_IMAGES = 64, 4  # larger passes are no faster
PIXEL_BYTES = 12  # of each object in each pixel of the original frame: logits at two sizes, masks, their comparison


class PassBytes(NamedTuple):
    """The memory of a pass, for each object with the backward pass and without, and for each image of the encoder."""

    train: float
    predict: float
    encode: float


# In float32, at the input side of the weights, with the default loss: benchmarks/chunk_memory.txt has the measurements
# on a GPU. bfloat16 takes a little less.
BYTES = {
    "vit_h": PassBytes(110e6, 27e6, 372e6),
    "vit_l": PassBytes(110e6, 27e6, 334e6),
    "vit_b": PassBytes(110e6, 27e6, 255e6),
    "vit_t": PassBytes(110e6, 27e6, 231e6),
    "lite_medsam": PassBytes(82e6, 27e6, 219e6),
}


class Chunks:
    """The default sizes of passes through a model, for the memory that is free on its GPU when this object is made.

    images: of a pass through the encoder · train: objects of a forward and backward pass through the decoder
    """

    def __init__(self, model: Sam) -> None:
        self._device = model.device
        self._free = free_gpu_bytes(model.device)
        # A model that was not measured counts as the largest. Memory grows with the area of the input.
        known = model.model_type if model.model_type in BYTES else "vit_h"
        area = (model.image_size / SPECS[known].image_size) ** 2
        train, self._predict, encode = (area * each for each in BYTES[known])
        self.images = chunk_size(self._device, self._free, encode, MOST_IMAGES, on_cpu=1)
        self.train = chunk_size(self._device, self._free, train, MOST_OBJECTS, on_cpu=8)

    def predict(self, original_size: Size) -> int:
        """Objects of a pass without a graph, whose masks end in the original frame."""
        each = self._predict + PIXEL_BYTES * original_size[0] * original_size[1]
        return chunk_size(self._device, self._free, each, MOST_OBJECTS, on_cpu=8)


def chunk_size(device: torch.device, free: float, each: float, most: int, on_cpu: int) -> int:
    """The largest power of two of at most `most` that fits into its share of the free bytes, and 1 at least.

    each: bytes · on_cpu: elsewhere than on a GPU; more would keep no further core busy
    """
    if device.type != "cuda":
        return on_cpu
    fitting = min(most, int(SHARE * free / each))
    # A power of two: a little more or less free memory must not change the rounding of a run's sums.
    return 1 << max(0, fitting.bit_length() - 1)
