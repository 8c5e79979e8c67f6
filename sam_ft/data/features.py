"""Embeddings of images seen before, in memory: a frozen encoder would only compute them again."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from sam_ft.types import Batch, Features


class FeatureCache:
    """Keeps the newest embeddings up to `max_gb`, found by the content of the image that they were made from.

    It belongs to one frozen encoder. A flipped image is another image, so augmentation makes it less useful, never
    wrong.
    """

    def __init__(self, max_gb: float = 2.0):
        self._max_bytes = max_gb * 1e9
        self._bytes = 0
        self._entries: OrderedDict[bytes, Tensor] = OrderedDict()

    def encode(self, batch: Batch, encode: Callable[[Tensor, list], Features]) -> Features:
        """The batch's features; `encode(images, input_sizes)` is called for the images not seen before, together."""
        keys = batch.digests
        new = [index for index, key in enumerate(keys) if key not in self._entries]
        found = {key: self._entries[key] for key in keys if key in self._entries}
        if new or not keys:
            fresh = encode(batch.images[new], [batch.input_sizes[index] for index in new]).embedding
            if not keys:
                return Features(fresh)
            found |= {keys[index]: embedding for index, embedding in zip(new, fresh, strict=True)}
        for key, embedding in found.items():
            self._keep(key, embedding)
        return Features(torch.stack([found[key].to(batch.images.device, non_blocking=True) for key in keys]))

    def _keep(self, key: bytes, embedding: Tensor) -> None:
        if key not in self._entries:
            self._entries[key] = embedding.to("cpu", copy=True)  # a view would hold on to its whole batch
            self._bytes += embedding.nbytes
        self._entries.move_to_end(key)
        while self._bytes > self._max_bytes:
            self._bytes -= self._entries.popitem(last=False)[1].nbytes
