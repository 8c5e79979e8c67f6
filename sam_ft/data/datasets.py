"""The samples of an epoch: read with their pixels or with their embedding, augmented and resized, all by seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch.utils.data import Dataset

from sam_ft.data.sources.survey import Survey
from sam_ft.data.transforms import Augment, ResizeLongestSide, dihedral_sample
from sam_ft.types import Sample
from sam_ft.utils.errors import ConfigError, UserError
from sam_ft.utils.seeds import derive_seed

T = TypeVar("T")
U = TypeVar("U")


class Split(Protocol):
    """What a data set offers for one of its splits: names, samples by position, and a count of what there is.

    `annotations` gives the same sample without its pixels, for images whose embedding is known; a data set that
    cannot read one without the other may return the whole sample. `classes` names the labels of the objects where
    they are classes; it is empty where they are numbers of instances. A split whose survey can name bad samples also
    has `without(names)`.
    """

    names: Sequence[str]
    classes: Mapping[int, str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def annotations(self, index: int) -> Sample: ...

    def survey(self) -> Survey: ...


class Draw(NamedTuple):
    """An image to load, in a certain epoch; all that a worker needs to know travels with it.

    view: how the picture is dihedral, see `transforms.dihedral`; None if the augmentation does other things to it
    key: of its embedding in the store, "" if none is to be had
    """

    epoch: int
    image: int
    view: int | None = 0
    key: str = ""


class TrainingSet(Dataset):
    """Augmented samples at the model's input side with at most `max_objects` objects each, all by seed.

    store: of embeddings, which replace the pixels wherever there is one; `keys` says where, by image and view

    Raises:
        ConfigError: the store's `views` are to take the place of an augmentation that they cannot.
    """

    def __init__(
        self,
        split: Split,
        augment: Augment,
        image_size: int,
        max_objects: int | None,
        seed: int,
        store: Any | None = None,
        views: int | None = None,
    ) -> None:
        self.split = split
        self.augment = augment
        self.resize = ResizeLongestSide(image_size)
        self.max_objects = max_objects
        self.seed = seed
        self.store = store
        self.views = views
        self.keys: dict[tuple[int, int], str] = {}
        if views is not None and augment.not_cacheable:
            raise ConfigError(
                f"cache.views={views} trains on flips and quarter turns alone, but train_transform also has "
                f"{', '.join(augment.not_cacheable)}; set cache.views=null or train_transform=none"
            )

    def draw(self, epoch: int, image: int) -> Draw:
        """What an image looks like in an epoch, by seed and name."""
        view, name = None, self.split.names[image]
        if self.views is not None:  # the image as it is, and others that hang on its name
            others = torch.randperm(7, generator=torch.Generator().manual_seed(derive_seed(self.seed, name))) + 1
            view = [0, *others.tolist()][derive_seed(self.seed, epoch, name) % self.views]
        elif not self.augment.not_cacheable:
            view = self.augment.view(derive_seed(self.seed, epoch, name))
        return Draw(epoch, image, view, "" if view is None else self.keys.get((image, view), ""))

    def views_in(self, epoch: int, images: Sequence[int]) -> list[tuple[int, int]]:
        """Image and view of all that an epoch draws whose embeddings can be stored."""
        if self.store is None:
            return []
        return [(draw.image, draw.view) for draw in (self.draw(epoch, i) for i in images) if draw.view is not None]

    def __getitem__(self, draw: Draw) -> Sample | UserError:
        return or_error(self._sample, draw)

    def _sample(self, draw: Draw) -> Sample:
        sample = _read(self.split, draw.image, self.store, draw.key)
        seed = derive_seed(self.seed, draw.epoch, sample.name)
        if self.max_objects is not None and len(sample.masks) > self.max_objects:
            order = torch.randperm(len(sample.masks), generator=torch.Generator().manual_seed(seed))
            sample = sample.select(order[: self.max_objects].sort().values)
        return self.resize(self.augment(sample, seed) if draw.view is None else dihedral_sample(sample, draw.view))


class EvaluationSet(Dataset):
    """Samples as they are, all objects, with the original masks beside them; `store` and `keys` as in training."""

    def __init__(self, split: Split, image_size: int, store: Any | None = None):
        self.split = split
        self.resize = ResizeLongestSide(image_size, keep_original=True)
        self.store = store
        self.keys: dict[tuple[int, int], str] = {}

    def __getitem__(self, index: int) -> Sample | UserError:
        return or_error(self.sample, index)

    def sample(self, index: int) -> Sample:
        return self.resize(_read(self.split, index, self.store, self.keys.get((index, 0), "")))


def _read(split: Split, image: int, store: Any | None, key: str) -> Sample:
    """The sample with its embedding for pixels if the store has one, else with its pixels."""
    embedding = store.load(key) if store is not None and key else None
    sample = split[image] if embedding is None else split.annotations(image)
    if embedding is None:
        return replace(sample, key=key)
    return replace(sample, image=sample.image.new_empty(3, 0, 0), embedding=embedding, key=key)


def or_error(load: Callable[[T], U], key: T) -> U | UserError:
    """Hands a mistake on as a value: what a worker raises reaches the main process wrapped in its traceback."""
    try:
        return load(key)
    except UserError as error:
        return error
