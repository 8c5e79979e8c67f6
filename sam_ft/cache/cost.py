"""The price of an augmentation that cannot be cached."""

import logging
import time
from collections.abc import Sequence

from torch import Tensor

from sam_ft.cache.embedding_cache import EmbeddingCache, Encode
from sam_ft.data.datasets import TrainingSet
from sam_ft.types import Features, Size
from sam_ft.utils import distributed

log = logging.getLogger("sam_ft")


class EncodingCost:
    """Encodes the images that a run encodes anyway, and knows then how long one takes.

    It times the second pass of the same number of images; the first one also prepares the kernels.
    """

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._known: set[int] = set()  # numbers of images that a pass has had
        self._seconds: float | None = None  # for one image

    def encode(self, images: Tensor, sizes: Sequence[Size], extremes: Tensor | None = None) -> Features:
        """The same as the encode function that this object was made with."""
        if self._seconds is not None or len(images) not in self._known:
            self._known.add(len(images))
            return self._encode(images, sizes, extremes)
        started = time.perf_counter()
        features = self._encode(images, sizes, extremes)
        float(features.maps[-1].sum())  # waits for the device
        self._seconds = (time.perf_counter() - started) / len(images)
        return features

    def explain(self, cache: EmbeddingCache, dataset: TrainingSet, images: int) -> None:
        """Logs why features of the training images cannot be cached, and how many seconds of each epoch that costs.

        The seconds are left out where every validation image was cached, so that none was encoded.

        images: to train on in an epoch
        """
        if not cache.enabled or not dataset.augment.not_cacheable:
            return
        share = images / distributed.world_size()
        price = "time in " if self._seconds is None else f"about {self._seconds * share:.0f} s of "
        log.info(
            "cache: off for the training images, because %s changes them at random. Encoding them takes "
            "%severy epoch, which transform@train_transform=flips or none would save",
            *(", ".join(dataset.augment.not_cacheable), price),
        )
