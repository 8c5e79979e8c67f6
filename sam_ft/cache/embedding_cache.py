"""The embedding cache: features at the cut of the encoder, computed once for all epochs and runs."""

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from sam_ft.cache.entry import HEADER_BYTES
from sam_ft.cache.folder import EntryFolder
from sam_ft.cache.index import SideIndex
from sam_ft.cache.prefix import prefix_digest, prefix_shapes
from sam_ft.cache.space import Space
from sam_ft.cache.views import ViewImages, find_keys, share, walk
from sam_ft.data.collate import stack_extremes
from sam_ft.data.datasets import EvaluationSet, TrainingSet, View
from sam_ft.models import Sam
from sam_ft.types import Features, Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import home

log = logging.getLogger("sam_ft")

MAX_GB = 50.0  # the default limit on all files
DTYPES = {"float16": torch.float16, "float32": torch.float32}

# (B, 3, S, S) uint8, sizes without padding, and `Batch.extremes`
Encode = Callable[[Tensor, Sequence[Size], Tensor | None], Features]


class EmbeddingCache:
    """A file for each image and view under SAM_FT_HOME/embeddings, shared by all runs with the same encoder prefix.

    dtype: "float16" or "float32", the number format of the files
    max_gb: size of all of them together; the least recently used are deleted first, see `Space` for runs at once
    views: train on that many of each image's 8 flips and quarter turns; None for those that the augmentation draws

    Raises:
        ValueError: an option has another value.
    """

    def __init__(self, dtype: str = "float16", max_gb: float = MAX_GB, views: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype} is not one of {', '.join(DTYPES)}")
        if not 0 < max_gb < math.inf:
            raise ValueError(f"max_gb={max_gb}; expected a number above 0 (cache=none for none)")
        if views is not None and not 1 <= views <= 8:
            raise ValueError(f"views={views}; expected 1 to 8, or null")
        root = home() / "embeddings"
        self.enabled = True
        self._dtype_name = dtype
        self.views = views
        self._space = Space(root, max_gb)
        self._index = SideIndex(root / "index.txt")
        self._folder: EntryFolder  # chosen by `open`

    def open(self, model: Sam, compute_dtype: torch.dtype, may_delete: bool = True) -> None:
        """Chooses the folder of this encoder's prefix. An encoder that learns from its first unit on has no cache.

        compute_dtype: the number format that the prefix computes in
        may_delete: whether files of other runs may make room, as in training; an evaluation leaves them
        """
        self._space.may_delete = may_delete
        if self.enabled and model.image_encoder.cut == 0:
            log.info(
                "cache: off, because the image encoder learns from its first layer on; every step encodes its images"
            )
            self.enabled = False
        if self.enabled:
            # A folder for each prefix, so entries of other weights or number formats are never found.
            name = f"{prefix_digest(model, compute_dtype)}-{self._dtype_name}"
            numbers = sum(math.prod(shape) for shape in prefix_shapes(model))  # of the maps of one image
            self._folder = EntryFolder(self._space, name, numbers * DTYPES[self._dtype_name].itemsize + HEADER_BYTES)

    @property
    def features_dtype(self) -> torch.dtype | None:
        """The format that fresh features are rounded to as well, so that cached ones give the same results."""
        return DTYPES[self._dtype_name] if self.enabled else None

    def read(self, keys: Sequence[str]) -> Features | None:
        """The features of a batch of images, in the format of the files; None if one is missing or damaged."""
        return self._folder.read(keys)

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
        if self.enabled and (missing := self._missing(dataset, views, workers, title)):
            log.info("%s: encoding %d images that no run has encoded yet (of %d)", title, len(missing), len(views))
            self._encode(dataset, missing, encode, per_pass, workers, title)
        return time.perf_counter() - started

    def _missing(
        self, dataset: TrainingSet | EvaluationSet, views: Collection[View], workers: int, title: str
    ) -> list[View]:
        """Gives the data set the keys of the views; → those to encode, the same list on all processes."""
        # Views whose key no earlier epoch has found.
        new = sorted(set(views) - dataset.keys.keys())
        keys = find_keys(dataset, new, self._index, workers, title) if new else {}
        known = {view: key for view in views if (key := dataset.keys.get(view))}
        # Files of earlier epochs that are gone, such as a damaged one that `read` has deleted.
        lost = distributed.broadcast_from_main(lambda: self._folder.lost(set(known.values())))
        if lost:
            log.warning("%s: %d cached embeddings are gone or damaged; encoding them again", title, len(lost))
            keys |= {view: key for view, key in known.items() if key in lost}
        if not keys:
            return []
        # Only the main process deletes and reserves; all processes get its plan.
        kept, missing = distributed.broadcast_from_main(lambda: self._folder.plan(set(keys.values())))
        # "": no room, so batches with this view are read as pixels in every epoch.
        dataset.keys |= {view: key if key in kept else "" for view, key in keys.items()}
        # By key: two views with the same pixels have one entry, which is written once.
        view_of = {key: view for view, key in keys.items()}
        return [view_of[key] for key in missing]

    def _encode(
        self,
        dataset: TrainingSet | EvaluationSet,
        views: list[View],
        encode: Encode,
        per_pass: int,
        workers: int,
        title: str,
    ) -> None:
        """Encodes this process's share of the views, and waits for the other processes."""
        images = ViewImages(dataset.split, dataset.image_size, with_pixels=True)
        changed: list[View] = []  # since their keys were found
        for items in walk(images, share(views), per_pass, workers, f"{title}: encoding"):
            # Their key stands for the old pixels, so nothing may be written under it.
            changed += [item.view for item in items if item.key != dataset.keys[item.view]]
            # another run may have been faster
            items = [item for item in items if item.view not in changed and not self._folder.holds(item.key)]
            if items:
                pixels = torch.stack([item.image for item in items if item.image is not None])
                extremes = stack_extremes([item.extremes for item in items])
                features = encode(pixels, [item.size for item in items], extremes)
                if not all(bool(one.isfinite().all()) for one in features.maps):
                    raise ConfigError(
                        f"{dataset.split.names[items[0].view[0]]}: features of this image, or of one encoded with it, "
                        f"do not fit into cache.dtype={self._dtype_name}; set cache.dtype=float32"
                    )
                for number, item in enumerate(items):
                    self._folder.write(item.key, features.image(number))
            if self._folder.failure:
                break
        dataset.keys |= dict.fromkeys(distributed.all_gather(changed), "")  # the next start finds their new keys
        for failure in filter(None, distributed.all_gather([self._folder.failure])):
            self._folder.give_up(failure)  # all do, so that the main process plans no more files


def no_cache() -> EmbeddingCache:
    """For cache=none: features are computed each time they are needed."""
    cache = EmbeddingCache()
    cache.enabled = False
    return cache
