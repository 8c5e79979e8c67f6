"""Options for reading samples from files, shared by all sources of image and mask files."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from sam_ft.data.io.classes import ClassMap, Code
from sam_ft.data.io.images import INTENSITIES
from sam_ft.utils.errors import ConfigError

OBJECT_MODES = ("whole", "components", "instances", "classes")


@dataclass(frozen=True)
class Rules:
    """Options for objects, intensities and files that cannot be used.

    objects: "whole": a binary mask is one object; "components": each connected component of at least `min_area`
        pixels, smaller ones are background; "instances": each integer id but 0; "classes": all pixels of each class in
        `classes`
    classes: id or color [red, green, blue] of each class; 0 and black are background unless they have a name
    components_per_class: with "classes", each connected component of at least `min_area` pixels is an object; pixels of
        smaller ones are ignored, since they are neither object nor background
    ignore_index: a value, or a color where classes have colors, whose pixels count in no loss and no score
    intensity: see `images.INTENSITIES` · page: of files with several pages, counted from 0
    on_bad: "stop" at files that cannot be used, or "skip" them, see `FileSplit.survey`
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
        for key, known in (("objects", OBJECT_MODES), ("intensity", tuple(INTENSITIES)), ("on_bad", ("stop", "skip"))):
            if getattr(self, key) not in known:
                raise ConfigError(f"data.{key}={getattr(self, key)} is not known; expected one of {', '.join(known)}")
        for key in ("classes", "components_per_class"):
            if getattr(self, key) and self.objects != "classes":
                raise ConfigError(
                    f"data.{key} needs data.objects=classes, but data.objects={self.objects}; "
                    "leave it out, or change data.objects"
                )
        check_min_area(self.min_area)
        if self.page is not None and self.page < 0:
            raise ConfigError(f"data.page={self.page}; pages are counted from 0")
        if self.objects != "classes" and self.ignore_index is not None and type(self.ignore_index) is not int:
            raise ConfigError(f"data.ignore_index={self.ignore_index}; expected an integer with {self.objects}")
        if self.classes is not None:
            _ = self.class_map  # raises now if it is invalid

    @cached_property
    def class_map(self) -> ClassMap:
        """The classes for `masks.read_class_mask`."""
        return ClassMap.from_config({} if self.classes is None else self.classes, self.ignore_index)

    @property
    def ignored_id(self) -> int | None:
        """`ignore_index` if it is an id, otherwise None."""
        return self.ignore_index if isinstance(self.ignore_index, int) else None


def check_min_area(min_area: int) -> None:
    if min_area < 0:
        raise ConfigError(
            f"data.min_area={min_area}; expected a number of pixels of at least 0; 0 keeps all components"
        )
