"""Images in the views that a run uses, read and hashed without their objects."""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sam_ft.cache.index import SideIndex, view_id
from sam_ft.data.datasets import EvaluationSet, Split, TrainingSet, View, or_error
from sam_ft.data.loader import make_loader
from sam_ft.data.transforms import dihedral, resize_image
from sam_ft.types import Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import UserError
from sam_ft.utils.geometry import resized_size
from sam_ft.utils.preemption import preemption

log = logging.getLogger("sam_ft")

T = TypeVar("T")

SILENCE = 30  # seconds between lines of progress in a log without a bar


class ViewImage(NamedTuple):
    """One view of an image in the input frame.

    key: hash of its pixels · size: without padding · image: (3, S, S) uint8, padded, or None
    extremes: see `Sample.extremes`
    """

    view: View
    key: str
    size: Size
    image: Tensor | None
    extremes: Tensor | None


class ViewImages(Dataset):
    """Views of the images of a split at the input side, with their pixels or with their keys alone."""

    def __init__(self, split: Split, side: int, with_pixels: bool) -> None:
        self.split = split
        self.side = side
        self.with_pixels = with_pixels

    def __getitems__(self, views: list[View]) -> list[ViewImage] | UserError:
        return or_error(lambda batch: [self._view(view) for view in batch], views)

    def _view(self, view: View) -> ViewImage:
        # View before resize, as in training, so that the pixels are the same.
        sample = self.split[view[0]]
        image = dihedral(sample.image, view[1]).contiguous()
        size = resized_size((image.shape[1], image.shape[2]), self.side)
        image = resize_image(image, size)
        key = pixels_key(image, sample.extremes)
        # The key is a few bytes to send from a worker, the pixels 3 MB at an input side of 1024.
        if not self.with_pixels:
            return ViewImage(view, key, size, None, None)
        padded = F.pad(image, (0, self.side - size[1], 0, self.side - size[0]))
        return ViewImage(view, key, size, padded, sample.extremes)


def pixels_key(image: Tensor, extremes: Tensor | None = None) -> str:
    """The key of an image (3, h, w) uint8 in the input frame without padding: a hash of its pixels.

    extremes: see `Sample.extremes`; with others the features are others
    """
    content = repr(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()
    content += b"" if extremes is None else repr(extremes.tolist()).encode()
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def find_keys(
    dataset: TrainingSet | EvaluationSet, views: Sequence[View], index: SideIndex, workers: int, title: str
) -> dict[View, str]:
    """The key of each view: from the index if its file has not changed, else from its pixels, which the index learns.

    All processes call this with the same views, and each looks at its share.
    """
    own, ids = share(views), {}
    for view in own:
        # Before its pixels are read: if the file changes in between, its new key gets an id that never returns.
        if fingerprint := dataset.split.fingerprint(view[0]):
            ids[view] = view_id(fingerprint, view[1], dataset.image_size)
    found = index.find(ids.values())
    keys = {view: found[own_id] for view, own_id in ids.items() if own_id in found}
    unknown = [view for view in own if view not in keys]
    if unknown:
        images = ViewImages(dataset.split, dataset.image_size, with_pixels=False)
        for items in walk(images, unknown, 4, workers, f"{title}: looking for embeddings"):
            keys |= {item.view: item.key for item in items}
        # without an id: a file too young to be known
        index.add({ids[view]: keys[view] for view in unknown if view in ids})
    # Every process needs all keys: in the next epoch it may get any image.
    return dict(distributed.all_gather(list(keys.items())))


def share(items: Sequence[T]) -> list[T]:
    """The part of a list that this process works on."""
    return list(items[distributed.rank() :: distributed.world_size()])


def walk(
    images: ViewImages, views: Sequence[View], per_batch: int, workers: int, title: str
) -> Iterator[list[ViewImage]]:
    """Views in lists of `per_batch`, behind a progress bar that estimates the time left; without one the log does."""
    batches = [list(views[start : start + per_batch]) for start in range(0, len(views), per_batch)]
    loader = make_loader(images, batches, workers, persistent=False)
    started = logged = time.perf_counter()
    done = 0
    with tqdm(total=len(views), desc=title, leave=False, disable=None if distributed.is_main() else True) as bar:
        for items in preemption.stoppable(loader):
            items = [ViewImage((item.view[0], item.view[1]), *item[1:]) for item in items]  # pinning made lists
            yield items
            bar.update(len(items))
            done, now = done + len(items), time.perf_counter()
            # In a log file, where tqdm shows nothing.
            if bar.disable and now - logged >= SILENCE and done < len(views):
                logged = now
                left = tqdm.format_interval((now - started) / done * (len(views) - done))
                log.info("%s: %.0f %% done, about %s left", title, 100 * done / len(views), left)
