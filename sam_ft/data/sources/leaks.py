"""Finds images with the same pixels in two splits, and decodes only those that may be."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.data.io.objects import ObjectMap
from sam_ft.data.sources.survey import Survey

LEAK_ADVICE = "a score on training images is meaningless, so keep each image in one split"
SAMPLED_BYTES = 4096  # of a file, in its middle, which tell files of one size apart
SAMPLED_STEP = 3  # of the rows and columns of a mask
COMMON = 10  # images that share a key; of more, the key tells nothing, such as that of a constant mask


def file_key(path: Path) -> str:
    """The same for copies of a file."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - SAMPLED_BYTES) // 2)
        return f"file {size} {zlib.crc32(file.read(SAMPLED_BYTES))}"


def mask_key(objects: ObjectMap) -> tuple[str, ...]:
    """The same for equal masks; none for one without objects, as those of many images are equal."""
    if not objects.count:
        return ()
    part = objects.ids[::SAMPLED_STEP, ::SAMPLED_STEP]
    return (f"mask {objects.ids.shape} {zlib.crc32(part.tobytes(), zlib.crc32(objects.areas.tobytes()))}",)


def find_shared_images(
    train: Survey, val: Survey, read_train: Callable[[str], Tensor], read_val: Callable[[str], Tensor]
) -> Iterator[tuple[str, str]]:
    """Names of images in train and in val with the same pixels; each of val once.

    read_train, read_val: the pixels of an image by its name, for those that share a key
    """
    known = _names_of_keys(train.keys)
    for key, names in _names_of_keys(val.keys).items():
        if max(len(names), len(known.get(key, ()))) > COMMON:
            known.pop(key, None)
    for name, keys in val.keys.items():
        candidates = list(dict.fromkeys(other for key in keys for other in known.get(key, ())))
        if not candidates:
            continue
        pixels = read_val(name)
        twin = next((other for other in candidates if torch.equal(read_train(other), pixels)), None)
        if twin is not None:
            yield twin, name


def _names_of_keys(keys: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name, own in keys.items():
        for key in own:
            names[key].append(name)
    return names
