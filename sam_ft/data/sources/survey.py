"""Counts of the images and objects of a split, taken before training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Hint(NamedTuple):
    """What to look at in a split; problem, advice, level: see `Issue`."""

    problem: str
    advice: str
    level: str = "warning"


@dataclass(frozen=True)
class Survey:
    """Counts of one split.

    images: number of usable images · objects: number of objects in all of them
    empty: names of the images without objects · lossy: number of masks that were thresholded
    bad: names of the samples to leave out because they cannot be used
    hints: about all masks · counts: of what else there is, in words for the log
    keys: {name: keys}; images of the same pixels nearly always share a key, and others may do so too
    """

    images: int
    objects: int
    empty: list[str]
    lossy: int
    bad: list[str] = field(default_factory=list)
    hints: Sequence[Hint] = ()
    counts: str = ""
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
