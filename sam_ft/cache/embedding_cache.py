"""The embedding cache: features at the cut of the encoder, computed once for all epochs and runs."""

import logging
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from sam_ft.cache.entry import HEADER_BYTES, read_entry, write_entry
from sam_ft.cache.index import SideIndex, index_entry
from sam_ft.cache.prefix import prefix_digest, prefix_shapes
from sam_ft.cache.space import Space
from sam_ft.cache.views import ViewImages, walk
from sam_ft.data.datasets import EvaluationSet, TrainingSet, View
from sam_ft.models import Sam
from sam_ft.types import Features, Size
from sam_ft.utils import distributed
from sam_ft.utils.files import home

log = logging.getLogger("sam_ft")

T = TypeVar("T")

DTYPES = {"float16": torch.float16, "float32": torch.float32}
SUFFIX = ".safetensors"

Encode = Callable[[Tensor, Sequence[Size]], Features]  # (B, 3, S, S) uint8, and sizes without padding


class EmbeddingCache:
    """A file for each image and view under SAM_FT_HOME/embeddings, shared by all runs with the same encoder prefix.

    dtype: "float16" or "float32", the number format of the files
    max_gb: size of all of them together; the least recently used are deleted first, never one that a living run uses
    views: train on so many of each image's 8 flips and quarter turns; None for those that the augmentation draws

    Raises:
        ValueError: an option has another value.
    """

    def __init__(self, dtype: str = "float16", max_gb: float = 50.0, views: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype} is not one of {', '.join(DTYPES)}")
        if not 0 < max_gb < math.inf:
            raise ValueError(f"max_gb={max_gb}; expected a number above 0 (cache=none for none)")
        if views is not None and not 1 <= views <= 8:
            raise ValueError(f"views={views}; expected 1 to 8, or null")
        self.enabled = True
        self.max_gb = max_gb
        self._dtype = DTYPES[dtype]
        self._views = views
        self._root = home() / "embeddings"
        self._folder = self._root
        self._space = Space(self._root, max_gb)
        self._index = SideIndex(self._root / "index.txt")
        self._entry_bytes = HEADER_BYTES
        self._writable = True

    def open(self, model: Sam, compute_dtype: torch.dtype) -> None:
        """Chooses the folder of this encoder's prefix. An encoder that learns from its first unit on has no cache.

        compute_dtype: the number format that the prefix computes in
        """
        if self.enabled and model.image_encoder.cut == 0:
            log.info(
                "cache: off, because the image encoder learns from its first layer on; every step encodes its images"
            )
            self.enabled = False
        if self.enabled:
            name = str(self._dtype).removeprefix("torch.")
            self._folder = self._root / f"{prefix_digest(model, compute_dtype)}-{name}"
            numbers = sum(math.prod(shape) for shape in prefix_shapes(model))
            self._entry_bytes = numbers * self._dtype.itemsize + HEADER_BYTES

    @property
    def features_dtype(self) -> torch.dtype | None:
        """The format that fresh features are rounded to as well, so that cached ones give the same results."""
        return self._dtype if self.enabled else None

    @property
    def views(self) -> int | None:
        return self._views if self.enabled else None

    def fill(
        self,
        dataset: TrainingSet | EvaluationSet,
        views: Collection[View],
        encode: Encode,
        per_pass: int,
        workers: int,
        title: str,
    ) -> float:
        """Encodes those of the views that are not cached, and gives the data set the keys of all of them.

        encode: the prefix of the encoder · per_pass: images for it at once

        All processes call this, and take their share of reading and encoding. An interrupted run goes on where it was.

        → seconds that it took
        """
        started = time.perf_counter()
        if self.enabled:
            self._fill(dataset, views, encode, per_pass, workers, title)
        return time.perf_counter() - started

    def _fill(
        self,
        dataset: TrainingSet | EvaluationSet,
        views: Collection[View],
        encode: Encode,
        per_pass: int,
        workers: int,
        title: str,
    ) -> None:
        new = sorted(set(views) - dataset.keys.keys())
        keys = self._keys(dataset, new, workers, title) if new else {}  # `new` is the same on all processes
        lost = distributed.broadcast_from_main(lambda: self._lost({dataset.keys.get(view, "") for view in views}))
        if lost:
            log.warning("%s: %d cached embeddings are gone or damaged; encoding them again", title, len(lost))
        if not keys and not lost:
            return
        kept, missing = distributed.broadcast_from_main(lambda: self._plan({*keys.values(), *lost}))
        dataset.keys |= {view: key if key in kept else "" for view, key in keys.items()}
        if missing:
            log.info("%s: encoding %d images that no run has encoded yet (of %d)", title, len(missing), len(views))
            view_of = {key: view for view, key in dataset.keys.items()}
            self._encode(dataset, [view_of[key] for key in _share(missing)], encode, per_pass, workers, title)
            distributed.all_gather([])  # wait for the embeddings of the other processes

    def read(self, keys: Sequence[str]) -> Features | None:
        """The features of a batch of images, in the format of the files; None if one is missing or damaged."""
        parts = []
        for key in keys:
            features = read_entry(self._path(key))
            if features is None:
                return None
            parts.append(features.maps)
        return Features(tuple(torch.cat(same) for same in zip(*parts, strict=True)))

    def _keys(
        self, dataset: TrainingSet | EvaluationSet, views: list[View], workers: int, title: str
    ) -> dict[View, str]:
        """The key of each view: from the index where the file has not changed, else from its pixels."""
        own, known = _share(views), self._index.read()
        entries: dict[View, str] = {}
        for view in own:
            if fingerprint := dataset.split.fingerprint(view[0]):
                entries[view] = index_entry(fingerprint, view[1], dataset.image_size)
        keys = {view: known[entry] for view, entry in entries.items() if entry in known}
        unknown = [view for view in own if view not in keys]
        if unknown:
            images = ViewImages(dataset.split, dataset.image_size, with_pixels=False)
            for items in walk(images, unknown, 4, workers, f"{title}: looking for embeddings"):
                keys |= {item.view: item.key for item in items}
            self._index.add({entries[view]: keys[view] for view in unknown if view in entries})
        return dict(distributed.all_gather(list(keys.items())))

    def _lost(self, keys: set[str]) -> list[str]:
        """Those keys whose files were there before and are not any more."""
        if not self._writable or not any(keys):
            return []
        present = {name.removesuffix(SUFFIX) for name in os.listdir(self._folder)} if self._folder.is_dir() else set()
        return sorted(keys - present - {""})

    def _plan(self, keys: set[str]) -> tuple[set[str], list[str]]:
        """Of these keys, those that are cached or will be, and those of them that are to be encoded now."""
        own = {self._path(key): key for key in sorted(keys)}
        if self._writable:
            try:
                kept, missing = self._space.plan(own, self._entry_bytes)
                return {own[path] for path in kept}, [own[path] for path in missing]
            except OSError as error:
                self._give_up(error)
        return {key for path, key in own.items() if path.exists()}, []

    def _encode(
        self,
        dataset: TrainingSet | EvaluationSet,
        views: list[View],
        encode: Encode,
        per_pass: int,
        workers: int,
        title: str,
    ) -> None:
        images = ViewImages(dataset.split, dataset.image_size, with_pixels=True)
        for items in walk(images, views, per_pass, workers, f"{title}: encoding"):
            items = [item for item in items if not self._path(item.key).exists()]  # another run may have been faster
            if items:
                features = encode(
                    torch.stack([item.image for item in items if item.image is not None]), [item.size for item in items]
                )
                for number, item in enumerate(items):
                    self._write(item.key, features.image(number))
            if not self._writable:
                return

    def _write(self, key: str, features: Features) -> None:
        try:
            write_entry(self._path(key), features)
        except (OSError, SafetensorError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if self._writable:
            log.warning(
                "embeddings can no longer be cached in %s (%s); images without one are encoded each time they are "
                "needed, which is slower. Make room, or set SAM_FT_HOME to a folder on another disk",
                *(self._root, error),
            )
        self._writable = False

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def no_cache() -> EmbeddingCache:
    """For cache=none: features are computed each time they are needed."""
    cache = EmbeddingCache()
    cache.enabled = False
    return cache


def _share(items: Sequence[T]) -> list[T]:
    return list(items[distributed.rank() :: distributed.world_size()])
