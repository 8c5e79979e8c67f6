"""Facts about the annotations of a COCO file that can be used, and hints where they may not be what was meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam_ft.data.sources.survey import Hint

MANY_CROWDS = 1 / 3  # of all annotations; COCO itself has 1 %


@dataclass(frozen=True)
class CocoFacts:
    """images, annotations: numbers of the usable ones · crowds: number of crowds among them · taken: `CocoRules.crowds`

    framed: number of images with an object of which the box is the whole frame
    merged: {name: ids} of categories of one name
    """

    images: int
    annotations: int
    crowds: int
    taken: str | None
    framed: int
    merged: Mapping[str, Sequence[int]]

    @property
    def counts(self) -> str:
        """Of the crowds, for the log."""
        return "" if self.taken is None else f", {self.crowds} crowds (data.crowds={self.taken})"

    def hints(self) -> list[Hint]:
        """The number of crowds, if the format has some, and what to look at."""
        hints = [] if self.taken is None else [self._crowds_hint()]
        for name, ids in self.merged.items():
            same = f"{len(ids)} categories have the name {name}: ids {', '.join(map(str, ids))}"
            hints.append(Hint(same, "they are one class", "note"))
        if 2 * self.framed > self.images:
            frame = f"the box of an object is the whole frame in {self.framed} of {self.images} images"
            reason = "the background or the whole image is annotated (leave its category out with data.categories)"
            hints.append(
                Hint(frame, f"look at the pictures; likely reasons: {reason}, or masks were exported inverted")
            )
        return hints

    def _crowds_hint(self) -> Hint:
        problem = f"{self.crowds} of {self.annotations} annotations are crowds (iscrowd=1)"
        advice = "they are objects (data.crowds=objects)" if self.crowds else ""
        if self.crowds and self.taken == "ignore":
            advice = "they are ignored, neither object nor background; data.crowds=objects makes them objects"
        many = self.taken == "ignore" and self.crowds > MANY_CROWDS * self.annotations
        if many:
            advice += " (CVAT marks masks that were drawn with a brush as crowds)"
        return Hint(problem, advice, "warning" if many else "note")
