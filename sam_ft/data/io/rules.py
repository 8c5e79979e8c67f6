"""How files become samples: the settings that all data sets of files share."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sam_ft.data.io.classes import Classes, Code
from sam_ft.data.io.images import INTENSITIES
from sam_ft.utils.errors import ConfigError

KINDS = ("whole", "components", "instances", "classes")


@dataclass(frozen=True)
class Rules:
    """What is an object, how images of more than 8 bits are scaled, and what happens to files that cannot be used.

    objects: "whole": a binary mask is one object; "components": each connected part of at least `min_area` pixels,
        smaller ones are background; "instances": each integer id but 0; "classes": all pixels of each class in
        `classes`
    classes: id or color [red, green, blue] of each class; 0 and black are background unless they are named
    components_per_class: with "classes", each connected part of at least `min_area` pixels is an object; the pixels
        of smaller ones are ignored: they are of the class, but no object
    ignore_index: a value, or a color where the classes have colors, whose pixels are no object and count for nothing
    intensity: see `reading.INTENSITIES` · page: of files that have several, counted from 0
    on_bad: "stop", or "skip": files that cannot be used are left out, see `FileSplit.survey`
    """

    objects: str = "whole"
    classes: Mapping[str, Code] | None = None
    components_per_class: bool = False
    min_area: int = 16
    ignore_index: Code | None = None
    intensity: str = "percentile"
    page: int | None = None
    on_bad: str = "stop"

    def __post_init__(self) -> None:
        for key, known in (("objects", KINDS), ("intensity", tuple(INTENSITIES)), ("on_bad", ("stop", "skip"))):
            if getattr(self, key) not in known:
                raise ConfigError(f"data.{key}={getattr(self, key)} is not known; expected one of {', '.join(known)}")
        for key in ("classes", "components_per_class"):
            if getattr(self, key) and self.objects != "classes":
                raise ConfigError(f"data.{key} is for data.objects=classes, but data.objects={self.objects}")
        check_min_area(self.min_area)
        if self.page is not None and self.page < 0:
            raise ConfigError(f"data.page={self.page}; pages are counted from 0")
        if self.objects != "classes" and self.ignore_index is not None and type(self.ignore_index) is not int:
            raise ConfigError(f"data.ignore_index={self.ignore_index}; expected an integer with {self.objects}")
        if self.classes is not None:
            _ = self.table  # what is wrong with it is said now

    @cached_property
    def table(self) -> Classes:
        """The classes as `masks.read_class_mask` takes them."""
        return Classes.of({} if self.classes is None else self.classes, self.ignore_index)

    @property
    def ignored_id(self) -> int | None:
        """`ignore_index` where it is an id."""
        return self.ignore_index if isinstance(self.ignore_index, int) else None


def check_min_area(min_area: int) -> None:
    if min_area < 0:
        raise ConfigError(f"data.min_area={min_area}; expected a number of pixels from 0, which keeps all specks")
