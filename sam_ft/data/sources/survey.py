"""What there is in a split, counted before anything else is done with it."""

from dataclasses import dataclass, field

SEVERAL = 1.5  # parts of a mask on average, from which on one may wonder whether each is an object


@dataclass(frozen=True)
class Survey:
    """What a split holds.

    images: that can be used · objects: of all of them · empty: names of the images without any object
    lossy: how many masks were cut at half · bad: names of the samples that cannot be used, and are to be left out
    parts: that do not touch, in a mask that is one object (data.objects=whole), on average; 1 if that is not known
    """

    images: int
    objects: int
    empty: list[str]
    lossy: int
    bad: list[str] = field(default_factory=list)
    parts: float = 1.0


def about_parts(parts: float) -> tuple[str, str] | None:
    """What to say about masks of so many parts, and what to do; None where they are no surprise."""
    if parts < SEVERAL:
        return None
    what = f"masks hold {parts:.1f} separate parts on average"
    return what, "data.objects=components makes each an object of its own"
