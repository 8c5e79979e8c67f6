"""Options for reading samples from files, shared by all sources of image and mask files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sam_ft.data.io.classes import OTHERS, ClassMap, Code, Codes, list_codes, pack_code
from sam_ft.data.io.images import READING, check_reading
from sam_ft.data.io.tiff_planes import Page
from sam_ft.utils.errors import ConfigError

_KNOWN = {
    "objects": ("whole", "components", "instances", "classes"),
    "on_bad": ("stop", "skip"),
    "other": OTHERS,
}


@dataclass(frozen=True)
class Rules:
    """Options for objects, intensities and files that cannot be used.

    objects: "whole": a binary mask is one object; "components": each connected component of at least `min_area`
        pixels, smaller ones are background; "instances": each integer id but 0, or each color but black; "classes": all
        pixels of each class in `classes`
    classes: id or color [red, green, blue] of each class; 0 and black are background unless they have a name
    components_per_class: with "classes", each connected component of at least `min_area` pixels is an object; pixels of
        smaller ones are ignored, since they are neither object nor background
    ignore_index: one or several values, or colors where masks have colors, whose pixels count in no loss and no score
    background: the values or colors of the background, instead of 0 and black
    other: with "classes", how pixels of other values count: "error", "background" or "ignore"
    intensity ... channels: see `images.read_image`
    invert: binary masks have the background where they are set, and the object elsewhere
    on_bad: "stop" at files that cannot be used, or "skip" them, see `FileSplit.survey`
    """

    objects: str = "whole"
    classes: Mapping[str, Code] | None = None
    components_per_class: bool = False
    min_area: int = 16
    ignore_index: Codes | None = None
    background: Codes | None = None
    other: str = "error"
    intensity: str = "percentile"
    page: int | None = None
    projection: str | None = None
    channels: Sequence[int] | None = None
    on_bad: str = "stop"
    invert: bool = False

    def __post_init__(self) -> None:
        for key, known in _KNOWN.items():
            if getattr(self, key) not in known:
                raise ConfigError(f"data.{key}={getattr(self, key)} is not known; expected one of {', '.join(known)}")
        for key in ("classes", "components_per_class", "other"):
            if getattr(self, key) not in (None, False, "error") and self.objects != "classes":
                raise ConfigError(
                    f"data.{key} needs data.objects=classes, but data.objects={self.objects}; "
                    "leave it out, or change data.objects"
                )
        if self.invert and self.objects not in ("whole", "components"):
            raise ConfigError(
                f"data.invert=true needs binary masks, but data.objects={self.objects}; leave it out, or set "
                "data.objects to whole or components"
            )
        check_min_area(self.min_area)
        check_reading(**self.reading)
        if self.objects != "classes":
            for key in ("ignore_index", "background"):
                self._check_codes(key, getattr(self, key))
        if self.classes is not None:
            _ = self.class_map  # raises now if it is invalid

    def _check_codes(self, key: str, value: Codes | None) -> None:
        """Raises: ConfigError for colors, unless each is an instance."""
        flat = list_codes(value, are_colors=False)
        if not all(type(code) is int for code in flat):
            if self.objects != "instances":
                raise ConfigError(
                    f"data.{key}={value}; expected an integer or several with data.objects={self.objects}"
                )
            for code in list_codes(value, are_colors=True):
                pack_code(f"data.{key}", code)

    @property
    def reading(self) -> dict[str, Any]:
        """The options of `images.read_image`."""
        return {key: getattr(self, key) for key in READING}

    @property
    def slices(self) -> Page:
        """The page or the projection, of images and masks alike."""
        return self.projection or self.page

    @cached_property
    def class_map(self) -> ClassMap:
        """The classes for `masks.read_class_mask`."""
        return ClassMap.from_config(
            {} if self.classes is None else self.classes, self.ignore_index, self.background, self.other
        )


def check_min_area(min_area: int) -> None:
    if min_area < 0:
        raise ConfigError(
            f"data.min_area={min_area}; expected a number of pixels of at least 0; 0 keeps all components"
        )
