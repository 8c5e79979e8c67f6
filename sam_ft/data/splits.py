"""Opens the splits of a data set, and finds every problem with them before a model is built."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from sam_ft.data.datasets import Split
from sam_ft.data.sources.leaks import LEAK_ADVICE, find_shared_images
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.survey import Survey
from sam_ft.data.tiled import TiledSplit, resolve_tile
from sam_ft.utils import distributed
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")

T = TypeVar("T")

EMPTY_SHARE = 3  # images with objects for each without


class Splits(NamedTuple):
    """Both splits without unusable samples.

    train_images: positions of the training images that hold objects · train_objects, val_objects: their number in all
    """

    train: Split
    val: Split
    train_images: list[int]
    train_objects: int
    val_objects: int


def open_splits(data: Any) -> tuple[Split, Split]:
    """The splits "train" and "val" of a data set, of which no mask has been read yet.

    Raises:
        DataError: listing all problems of either.
    """
    train, val = _all_or_error([lambda: data.split("train"), lambda: data.split("val")])
    return train, val


def survey_splits(train: Split, val: Split) -> Splits:
    """Reads all masks of both splits.

    Raises:
        DataError: listing all problems of either.
    """
    # One process reads the masks, and the others get its counts.
    found = distributed.broadcast_from_main(lambda: _survey_both(train, val))
    train, val = (without_bad(split, survey) for split, survey in zip((train, val), found, strict=True))
    empty = set(found[0].empty)
    train_images = [index for index, name in enumerate(train.names) if name not in empty]
    return Splits(train, val, train_images, found[0].objects, found[1].objects)


def tile_splits(splits: Splits, tile: int | str | None, image_size: int, own_extremes: bool) -> tuple[Splits, int]:
    """The tiles of both splits, and their side in pixels of the files.

    tile: None for whole images, see `resolve_tile` · image_size: S of the model
    own_extremes: whether it scales each image by its own

    An image no larger than a tile stays as it is. In validation each object is in one tile only.
    """
    side = distributed.broadcast_from_main(lambda: resolve_tile(tile, splits.train, image_size))
    if tile is None:
        return splits, side
    train = TiledSplit(splits.train, side, extremes_at=image_size if own_extremes else None)
    val = tile_split(splits.val, side, image_size, own_extremes)
    # One process reads the masks.
    survey = distributed.broadcast_from_main(train.survey)
    empty = set(survey.empty)
    log.info(
        "tiles of %d px: %d for training with %d objects, %d for validation", side, len(train), survey.objects, len(val)
    )
    train_images = [index for index, name in enumerate(train.names) if name not in empty]
    return Splits(train, val, train_images, survey.objects, splits.val_objects), side


def add_empty_images(splits: Splits) -> Splits:
    """Also trains on images without objects, for a head, which has to learn the background: at most one for three.

    They are drawn by a fixed seed.
    """
    empty = sorted({*range(len(splits.train))} - {*splits.train_images})
    order = torch.randperm(len(empty), generator=torch.Generator().manual_seed(0)).tolist()
    chosen = [empty[place] for place in order[: len(splits.train_images) // EMPTY_SHARE]]
    if chosen:
        log.info("train: %d images or tiles without objects train the head", len(chosen))
    return splits._replace(train_images=sorted([*splits.train_images, *chosen]))


def tile_split(split: Split, tile: int | str | None, image_size: int, own_extremes: bool) -> Split:
    """The tiles of a split for an evaluation: each object is in one of them. See `tile_splits`."""
    if tile is None:
        return split
    side = distributed.broadcast_from_main(lambda: resolve_tile(tile, split, image_size))
    return TiledSplit(split, side, once=True, extremes_at=image_size if own_extremes else None)


def _survey_both(train: Split, val: Split) -> list[Survey]:
    """Surveys both splits, and warns of images that are in both."""
    advised: set[str] = set()
    acts = [lambda: survey_split(train, "train", advised), lambda: survey_split(val, "val", advised)]
    found = _all_or_error(acts)
    reads = [lambda name, split=split: split[split.names.index(name)].image for split in (train, val)]
    pairs = find_shared_images(found[0], found[1], *reads)
    if shared := [f"{first} = {second}" for first, second in pairs]:
        log.warning(
            "%d of %d images of val have the same pixels as one of train; %s: %s",
            *(len(shared), len(val), LEAK_ADVICE, join_names(shared)),
        )
    return found


def open_split(data: Any, name: str) -> Split:
    """One split without unusable samples. Raises: DataError"""
    split = data.split(name)
    return without_bad(split, distributed.broadcast_from_main(lambda: survey_split(split, name)))


def without_bad(split: Any, survey: Survey) -> Any:
    return split.without(survey.bad) if survey.bad else split


def survey_split(split: Split, name: str, advised: set[str] | None = None) -> Survey:
    """Reads all masks of a split and logs their number, and hints.

    advised: advice that was logged for another split, which is not repeated; receives that of this one

    Raises:
        DataError: files are unusable, a name occurs twice, or there are no objects at all.
    """
    if twice := [own for own, count in Counter(split.names).items() if count > 1]:  # prompts and scores go by name
        raise DataError(f"the {name} images have names that occur twice: {join_names(twice)}; each image needs its own")
    found = split.survey()
    without = f", {len(found.empty)} of them without any (skipped)" if found.empty else ""
    log.info("%s: %d images with %d objects%s%s", name, found.images, found.objects, found.counts, without)
    advised = set() if advised is None else advised
    for hint in found.hints:
        if hint.advice not in advised:
            log.log(logging.WARNING if hint.level == "warning" else logging.INFO, "%s: %s; %s", name, *hint[:2])
        advised.add(hint.advice)
    if not found.objects:
        raise DataError(
            f"the {name} images hold no objects at all{found.counts}; look at the masks or annotations, and at the "
            "data.* settings that define which of their values are objects"
        )
    return found


def _all_or_error(acts: Sequence[Callable[[], T]]) -> list[T]:
    done, problems = [], []
    for act in acts:
        try:
            done.append(act())
        except DataError as error:
            problems.append(str(error))
    if problems:
        text = "\n".join(dict.fromkeys(problems))  # problems that both splits share appear once
        raise DataError(f"{text}\n`sam-ft check` with the same data=... reads everything and lists every problem")
    return done
