"""How a report shows the names of images: shortened in the middle, or hidden."""

from collections.abc import Iterable, Mapping
from typing import Any

from sam_ft.data.tiled import image_of_tile

HIDDEN = "(hidden)"
# Texts among the settings of data sets that name no file; all others do, or may.
NO_FILES = ("_target_", "objects", "intensity", "on_bad", "tile")


def shorten(name: str, width: int) -> str:
    """At most `width` characters: the middle is left out, since the ends tell names apart."""
    if len(name) <= width:
        return name
    left = (width - 1) // 2
    return f"{name[: width - 1 - left]}…{name[len(name) - left :]}"


class ImageNames:
    """The names of images as a report shows them: `ImageNames(names, hidden=True)("patient_7")` is "image 3".

    names: of images or tiles; numbers are in the order of the names
    """

    def __init__(self, names: Iterable[str], hidden: bool) -> None:
        images = sorted({image_of_tile(name) for name in names}) if hidden else []
        self._numbers = {name: number for number, name in enumerate(images, 1)}
        self.hidden = hidden

    def __call__(self, name: str) -> str:
        if not self.hidden:
            return shorten(name, 48)
        image = image_of_tile(name)
        return f"image {self._numbers[image]}{name[len(image) :]}"


def hide_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run without paths, and without file names among those of its data."""
    return {key: _without_paths(value, key, key == "data") for key, value in settings.items()}


def _without_paths(value: Any, key: str, of_data: bool) -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(inner, name, of_data) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner, key, of_data) for inner in value]
    if isinstance(value, str) and ((of_data and key not in NO_FILES) or "/" in value or "\\" in value):
        return HIDDEN
    return value


def hide_in_override(override: str) -> str:
    """The same for a setting as it is typed, data.root=DIR."""
    name, equals, value = override.partition("=")
    group, _, option = name.lstrip("+~").rpartition(".")
    return f"{name}{equals}{_without_paths(value, option, group.split('.')[0] == 'data')}"
