"""The price of an augmentation that cannot be cached."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from sam_ft.cache.embedding_cache import EmbeddingCache, Encode
from sam_ft.data.datasets import TrainingSet
from sam_ft.types import Batch, Features, Size
from sam_ft.utils import distributed

log = logging.getLogger("sam_ft")


class EncodingCost:
    """Logs why features of the training images cannot be cached, and how many seconds of each epoch that costs.

    It times the second pass of the encoder that the run needs anyway, for validation or training; the first one also
    starts up the kernels. Where the training images are cached it times and logs nothing.

    images: to train on in an epoch
    """

    def __init__(self, cache: EmbeddingCache, dataset: TrainingSet, encode: Encode, images: int) -> None:
        self._encode = encode
        self._reasons = dataset.augment.not_cacheable if cache.enabled else []
        self._images = images
        self._passes_left = 2 if self._reasons else 0

    def encode(self, images: Tensor, sizes: Sequence[Size]) -> Features:
        """The same as the encode function that this object was made with."""
        if not self._passes_left or not len(images):
            return self._encode(images, sizes)
        started = time.perf_counter()
        features = self._encode(images, sizes)
        float(features.maps[-1].sum())  # waits for the device
        self._passes_left -= 1
        if not self._passes_left:
            # One image, times this process's share.
            seconds = (time.perf_counter() - started) / len(images) * self._images / distributed.world_size()
            log.info(
                "cache: off for the training images, because %s changes them at random. Encoding them takes about "
                "%.0f s of every epoch, which transform@train_transform=flips or none would save",
                *(", ".join(self._reasons), seconds),
            )
        return features

    def encode_batches(self, batches: Sequence[Batch]) -> list[Batch]:
        """Encodes the batches until the cost is known, so that a training step takes their features; → the batches."""
        return [self._with_features(batch) if self._passes_left else batch for batch in batches]

    def _with_features(self, batch: Batch) -> Batch:
        if batch.images is None or not len(batch.images):
            return batch
        return replace(batch, images=None, features=self.encode(batch.images, batch.sizes))
