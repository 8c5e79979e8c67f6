"""The batches of an epoch: samples with pixels or cached features, augmented and resized, all by seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sam_ft.data.collate import collate
from sam_ft.data.sources.survey import Survey
from sam_ft.data.transforms import Augment, dihedral_sample, resize_for_evaluation, resize_longest_side
from sam_ft.types import Batch, Features, Original, Sample
from sam_ft.utils.errors import ConfigError, UserError
from sam_ft.utils.seeds import derive_seed

T = TypeVar("T")
U = TypeVar("U")

View = tuple[int, int]  # an image's position in its split, and which of the 8 views of `transforms.dihedral`
MakeMaps = Callable[[Sample, int], Tensor]
ReadFeatures = Callable[[Sequence[str]], Features | None]  # by the keys of cached views; None if one is missing


class Samples(Protocol):
    """Samples by position, with their names."""

    names: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Split(Samples, Protocol):
    """One split of a data set: names, each of which occurs once, samples by position, and counts of its content.

    `annotations` gives the same sample without its pixels, for images whose features are cached; a data set that
    cannot read one without the other may return the whole sample. `classes` names the labels of the objects where
    they are classes; it is empty where they are numbers of instances. `fingerprint` changes whenever the pixels of an
    image may have changed, without decoding it; None if that is unknown. A split whose survey can name bad
    samples also has `without(names)`.
    """

    classes: Mapping[int, str]

    def annotations(self, index: int) -> Sample: ...

    def fingerprint(self, index: int) -> str | None: ...

    def survey(self) -> Survey: ...


class Draw(NamedTuple):
    """An image to load, in a certain epoch, with all that a worker needs to load it.

    view: one of the 8 of `transforms.dihedral`, or None if the augmentation changes the image in other ways
    key: of its cached features, "" if there are none
    """

    epoch: int
    image: int
    view: int | None = 0
    key: str = ""


class TrainingSet(Dataset):
    """Batches of augmented samples at the model's input side with at most `max_objects` objects an image, by seed.

    views: train on that many of each image's 8 dihedral views; None for those that the augmentation draws
    read_features: replaces the pixels of a batch if it has the features of all its images
    make_maps: of a head: (sample with all of its objects in the original frame, view) → `Sample.maps`; its batches
        have pixels beside features
    keys: of the views whose features are cached

    Raises:
        ConfigError: `views` together with an augmentation that is not cacheable.
    """

    def __init__(
        self,
        split: Split,
        augment: Augment,
        image_size: int,
        max_objects: int | None,
        seed: int,
        views: int | None = None,
        read_features: ReadFeatures | None = None,
        make_maps: MakeMaps | None = None,
    ) -> None:
        self.split = split
        self.augment = augment
        self.image_size = image_size
        self.max_objects = max_objects
        self.seed = seed
        self.views = views
        self.read_features = read_features
        self.make_maps = make_maps
        self.keys: dict[View, str] = {}
        if views is not None and augment.not_cacheable:
            raise ConfigError(
                f"cache.views={views} trains on flips and quarter turns alone, but train_transform also has "
                f"{', '.join(augment.not_cacheable)}; set cache.views=null or train_transform=none"
            )

    def draw(self, epoch: int, image: int) -> Draw:
        """The view of an image in an epoch, by seed and name."""
        view, name = None, self.split.names[image]
        if self.views is not None:  # the image as it is, and others that depend on its name
            others = torch.randperm(7, generator=torch.Generator().manual_seed(derive_seed(self.seed, name))) + 1
            view = [0, *others.tolist()][derive_seed(self.seed, epoch, name) % self.views]
        elif not self.augment.not_cacheable:
            view = self.augment.view(derive_seed(self.seed, epoch, name))
        return Draw(epoch, image, view, "" if view is None else self.keys.get((image, view), ""))

    def views_in(self, epoch: int, images: Sequence[int]) -> list[View]:
        """The views of an epoch that can be cached; none without a cache."""
        if self.read_features is None:
            return []
        draws = (self.draw(epoch, image) for image in images)
        return [(draw.image, draw.view) for draw in draws if draw.view is not None]

    def __getitems__(self, draws: list[Draw]) -> Batch | UserError:
        """Called by the DataLoader for a whole batch at once."""
        return or_error(self.batch, draws)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        # All from the cache or all as pixels: a batch holds no mixture.
        features = features_of(self.read_features, [draw.key for draw in draws])
        with_pixels = features is None or self.make_maps is not None
        samples = [self._sample(draw, with_pixels) for draw in draws]
        return collate(samples, self.image_size, features, keep_pixels=self.make_maps is not None)

    def _sample(self, draw: Draw, with_pixels: bool) -> Sample:
        sample = self.split[draw.image] if with_pixels else self.split.annotations(draw.image)
        seed = derive_seed(self.seed, draw.epoch, sample.name)
        augments = draw.view is None
        if self.make_maps is not None:  # of all objects, before some are drawn
            sample = self.augment(sample, seed) if augments else sample
            sample = replace(sample, maps=self.make_maps(sample, draw.view or 0))
            augments = False
        # A random subset in the order of the image, before masks are dense, augmented and resized: that costs by the
        # object.
        if self.max_objects is not None and len(sample.masks) > self.max_objects:
            order = torch.randperm(len(sample.masks), generator=torch.Generator().manual_seed(seed))
            sample = sample.select(order[: self.max_objects].sort().values)
        if augments:
            sample = self.augment(sample, seed)
        elif draw.view is not None:  # the features or pixels of that view and nothing else
            sample = dihedral_sample(sample, draw.view)
        return resize_longest_side(sample, self.image_size)


class EvaluationSet(Dataset):
    """Batches of samples as they are, with all objects and the original masks; features as in `TrainingSet`.

    keep_pixels: for a head, also beside features

    Compact masks stay compact, see `types.Masks`.
    """

    def __init__(
        self, split: Split, image_size: int, read_features: ReadFeatures | None = None, keep_pixels: bool = False
    ) -> None:
        self.split = split
        self.image_size = image_size
        self.read_features = read_features
        self.keep_pixels = keep_pixels
        self.keys: dict[View, str] = {}

    def __len__(self) -> int:
        return len(self.split)

    @property
    def all_views(self) -> list[View]:
        return [(image, 0) for image in range(len(self))]

    def __getitems__(self, images: list[int]) -> Batch | UserError:
        """Called by the DataLoader for a whole batch at once."""
        return or_error(self.batch, images)

    def batch(self, images: Sequence[int]) -> Batch:
        features = features_of(self.read_features, [self.keys.get((image, 0), "") for image in images])
        read = self.split.__getitem__ if features is None or self.keep_pixels else self.split.annotations
        samples = [read(image) for image in images]
        # Scores are taken in the original frame, so its masks go along.
        originals = [Original(sample.masks, sample.ignore, sample.size, sample.elsewhere) for sample in samples]
        resized = [resize_for_evaluation(sample, self.image_size) for sample in samples]
        return collate(resized, self.image_size, features, originals, self.keep_pixels)


def features_of(read: ReadFeatures | None, keys: Sequence[str]) -> Features | None:
    """The cached features of a whole batch; None if an image has none, for a batch holds no mixture."""
    return read(keys) if read is not None and keys and all(keys) else None


def or_error(load: Callable[[T], U], key: T) -> U | UserError:
    """Returns a user's mistake as a value: raised in a worker, it would reach the main process inside a traceback."""
    try:
        return load(key)
    except UserError as error:
        return error
