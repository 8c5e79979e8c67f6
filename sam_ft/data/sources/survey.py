"""Counts of the images and objects of a split, taken before training."""

from dataclasses import dataclass, field

MANY_COMPONENTS = 1.5  # components of a mask on average; from here on each may be an object


@dataclass(frozen=True)
class Survey:
    """Counts of one split.

    images: number of usable images · objects: number of objects in all of them
    empty: names of the images without objects · lossy: number of masks that were thresholded
    bad: names of the samples to leave out because they cannot be used
    components: of a mask that is one object (data.objects=whole), on average; 1 if they were not counted
    """

    images: int
    objects: int
    empty: list[str]
    lossy: int
    bad: list[str] = field(default_factory=list)
    components: float = 1.0


def components_hint(components: float) -> tuple[str, str] | None:
    """Problem and advice for masks of so many components on average, or None where that is no surprise."""
    if components < MANY_COMPONENTS:
        return None
    problem = f"masks hold {components:.1f} separate parts on average"
    return problem, "data.objects=components makes each an object of its own"
