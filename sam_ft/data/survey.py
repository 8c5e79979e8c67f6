"""What there is in a split, counted before anything else is done with it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Survey:
    """What a split holds.

    images: that can be used · objects: of all of them · empty: names of the images without any object
    lossy: how many masks were cut at half · bad: names of the samples that cannot be used, and are to be left out
    """

    images: int
    objects: int
    empty: list[str]
    lossy: int
    bad: list[str] = field(default_factory=list)
