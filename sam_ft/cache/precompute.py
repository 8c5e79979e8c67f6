"""Encoding each image once, ahead of its use, where the image encoder is frozen."""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from sam_ft.data.datasets import EvaluationSet, Split, TrainingSet, or_error
from sam_ft.data.loader import make_loader
from sam_ft.data.transforms import dihedral, resize_image
from sam_ft.models import Sam
from sam_ft.types import Features, Size
from sam_ft.utils import distributed
from sam_ft.utils.errors import UserError
from sam_ft.utils.geometry import resized_size

log = logging.getLogger("sam_ft")

SILENCE = 30  # seconds without a word
PREPROCESSING = "1"  # to be raised when an image would become another embedding than before

T = TypeVar("T")
View = tuple[int, int]  # an image's position in its split, and one of the 8 ways to lay it
Encode = Callable[[Tensor, list[Size]], Features]  # (B, 3, S, S) uint8 and input sizes -> embeddings


def encoder_digest(model: Sam, computed_in: torch.dtype) -> str:
    """What an embedding depends on besides its image: weights, preprocessing, precision, and the kind of device."""
    digest = hashlib.blake2b(digest_size=10)
    kind = (PREPROCESSING, model.model_type, model.image_size, model.normalize, str(computed_in), model.device.type)
    digest.update(repr(kind).encode())
    for name, tensor in sorted(model.image_encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def image_key(image: Tensor) -> str:
    """By which an embedding is found: the pixels in the input frame, (3, h, w) uint8, without padding."""
    content = repr(tuple(image.shape)).encode() + image.contiguous().numpy().tobytes()
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def encode_ahead(
    dataset: TrainingSet | EvaluationSet,
    views: Collection[View],
    encode: Encode,
    at_once: int,
    workers: int,
    title: str,
) -> None:
    """Sees to it that the store holds the embeddings of these views, and notes their keys in the data set.

    What is there already is not made again, so an interrupted run goes on where it was. All processes take their
    share, of looking through the images and of encoding the missing ones.
    """
    store, new = dataset.store, sorted(set(views) - dataset.keys.keys())
    if store is None or not new:  # the same on all processes
        return
    pixels = Pixels(dataset.split, dataset.resize.side)
    found: list[tuple[View, str]] = []
    for items in _through(pixels, _share(new), 4, workers, f"{title}: looking for embeddings"):
        found += [((item.view[0], item.view[1]), item.key) for item in items]  # pinning memory makes lists of tuples
    keys = dict(distributed.all_gather(found))

    plan = distributed.broadcast_from_main(lambda: store.plan(sorted(set(keys.values()))))
    store.keep(plan)
    dataset.keys |= {view: key if key in plan.kept else "" for view, key in keys.items()}
    if not plan.missing:
        return
    log.info("%s: encoding %d images that no run has encoded yet (of %d)", title, len(plan.missing), len(keys))
    views_of = {key: view for view, key in keys.items()}
    pixels.with_images = True
    missing = [views_of[key] for key in _share(plan.missing)]
    for items in _through(pixels, missing, at_once, workers, f"{title}: encoding"):
        items = [item for item in items if item.key not in store]  # another run may have been faster
        if items:
            images = torch.stack([item.image for item in items])
            embeddings = encode(images, [item.size for item in items]).embedding
            for item, embedding in zip(items, embeddings, strict=True):
                store.put(item.key, embedding)
        if not store.writable:
            break
    distributed.all_gather([])  # what the others encode is needed too


def explain_cost(dataset: TrainingSet, encode: Encode, encoder_learns: bool, images: int) -> None:
    """Says why embeddings of the training images are not stored although they could be, and what that costs."""
    if encoder_learns:
        log.info("cache: off, because the image encoder learns; every step encodes its images")
    elif dataset.augment.not_cacheable:
        side = dataset.resize.side
        for _ in range(2):  # the first one starts up whatever there is to start
            started = time.perf_counter()
            float(encode(torch.zeros(1, 3, side, side, dtype=torch.uint8), [(side, side)]).embedding.sum())  # waits
        seconds = (time.perf_counter() - started) * images / distributed.world_size()
        log.info(
            "cache: off for the training images, because %s makes other pictures of them each time. Encoding them "
            "takes about %.0f s of every epoch, which transform@train_transform=flips or none would save",
            *(", ".join(dataset.augment.not_cacheable), seconds),
        )


class Item(NamedTuple):
    """A view of an image and the key of its embedding · image: (3, S, S) uint8, padded, or (3, 0, 0)"""

    view: View
    key: str
    size: Size
    image: Tensor


class Pixels(Dataset):
    """Images without their objects, in the input frame; with_images=False brings their keys alone."""

    def __init__(self, split: Split, side: int) -> None:
        self.split = split
        self.side = side
        self.with_images = False

    def __getitem__(self, view: View) -> Item | UserError:
        return or_error(self._item, view)

    def _item(self, view: View) -> Item:
        image = dihedral(self.split[view[0]].image, view[1]).contiguous()
        size = resized_size((image.shape[1], image.shape[2]), self.side)
        image = resize_image(image, size)
        key = image_key(image)
        if not self.with_images:
            return Item(view, key, size, image.new_empty(3, 0, 0))  # a view would hold on to all pixels
        return Item(view, key, size, F.pad(image, (0, self.side - size[1], 0, self.side - size[0])))


def _share(items: list[T]) -> list[T]:
    return items[distributed.rank() :: distributed.world_size()]


def _through(pixels: Pixels, views: list[View], at_once: int, workers: int, title: str) -> Iterator[list[Item]]:
    """The items in lists of `at_once`, behind a progress bar that tells how long it will take; else the log does."""
    batches = [views[start : start + at_once] for start in range(0, len(views), at_once)]
    loader = make_loader(pixels, batches, workers, _items_or_error, persistent=False)
    started = told = time.perf_counter()
    done = 0
    with tqdm(total=len(views), desc=title, leave=False, disable=None if distributed.is_main() else True) as bar:
        for items in loader:
            yield items
            bar.update(len(items))
            done, now = done + len(items), time.perf_counter()
            if bar.disable and now - told >= SILENCE and done < len(views):  # in a batch job there is no bar
                told = now
                left = tqdm.format_interval((now - started) / done * (len(views) - done))
                log.info("%s: %.0f %% done, about %s left", title, 100 * done / len(views), left)


def _items_or_error(items: list[Item | UserError]) -> list[Item] | UserError:
    return next((item for item in items if isinstance(item, UserError)), items)  # type: ignore[return-value]
