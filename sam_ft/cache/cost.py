"""The price of an augmentation that cannot be cached."""

import logging
import time

import torch

from sam_ft.cache.embedding_cache import EmbeddingCache, Encode
from sam_ft.data.datasets import TrainingSet
from sam_ft.utils import distributed

log = logging.getLogger("sam_ft")


def explain_cost(cache: EmbeddingCache, dataset: TrainingSet, encode: Encode, images: int) -> None:
    """Logs why features of the training images cannot be cached, and how many seconds of each epoch that costs."""
    if not cache.enabled or not dataset.augment.not_cacheable:
        return
    side = dataset.image_size
    for _ in range(2):  # the first pass also starts up the kernels
        started = time.perf_counter()
        image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
        float(encode(image, [(side, side)]).maps[-1].sum())  # waits for the device
    # One image, times this process's share.
    seconds = (time.perf_counter() - started) * images / distributed.world_size()
    log.info(
        "cache: off for the training images, because %s changes them at random. Encoding them takes about %.0f s of "
        "every epoch, which transform@train_transform=flips or none would save",
        *(", ".join(dataset.augment.not_cacheable), seconds),
    )
