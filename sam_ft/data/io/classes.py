"""The value or color of each class in a mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from sam_ft.utils.errors import ConfigError

Code = int | Sequence[int]  # an id, or a color [red, green, blue]
Codes = Code | Sequence[Code]  # one or several of them
OTHERS = ("error", "background", "ignore")


@dataclass(frozen=True)
class ClassMap:
    """The codes of all classes: either ids or colors.

    names, codes: one per class; a code is an id, or a color as red * 65536 + green * 256 + blue
    ignored, background: the codes of pixels to ignore, and of those without a class
    other: how pixels of other codes count: "error", "background" or "ignore"
    """

    names: tuple[str, ...]
    codes: tuple[int, ...]
    are_colors: bool
    ignored: tuple[int, ...] = ()
    background: tuple[int, ...] = (0,)
    other: str = "error"

    @classmethod
    def from_config(
        cls,
        classes: Mapping[str, Code],
        ignore_index: Codes | None = None,
        background: Codes | None = None,
        other: str = "error",
    ) -> "ClassMap":
        """Raises: ConfigError when `classes` maps no names, mixes ids and colors, or has a repeated or invalid code."""
        _check_mapping(classes)
        if not classes:
            raise ConfigError("data.classes is empty; expected names with ids or colors, such as '{crop: 1, weed: 2}'")
        are_colors = _is_color(next(iter(classes.values())))
        # By the option that holds each code, for the errors below; all of them are checked together.
        of_classes = {f"data.classes.{name}": code for name, code in classes.items()}
        of_ignored = _by_option("data.ignore_index", ignore_index, are_colors)
        of_background = _by_option("data.background", background, are_colors)
        given = {**of_classes, **of_ignored, **of_background}
        if {_is_color(code) for code in given.values()} != {are_colors}:
            raise ConfigError(
                f"{', '.join(f'{key}={code}' for key, code in given.items())}: ids and colors are mixed; "
                "expected all of them to be ids, or all of them colors [red, green, blue]"
            )
        codes = {key: pack_code(key, code) for key, code in given.items()}
        for key, code in codes.items():
            if twin := [other for other in codes if other != key and codes[other] == code]:
                raise ConfigError(f"{key} and {twin[0]} are both {given[key]}; expected a different value for each")
        ignored, none = (tuple(codes[key] for key in part) for part in (of_ignored, of_background))
        own = tuple(codes[key] for key in of_classes)
        return cls(tuple(map(str, classes)), own, are_colors, ignored, none if of_background else (0,), other)

    @property
    def labels(self) -> tuple[int, ...]:
        """One per class: its id, or 1, 2, ... in order for colors."""
        return tuple(range(1, len(self.codes) + 1)) if self.are_colors else self.codes

    def format_code(self, code: int) -> str:
        """A code as data.classes has it."""
        # unpacks what `pack_code` packed
        return str([code >> 16, code >> 8 & 255, code & 255] if self.are_colors else code)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.format_code(code)}" for name, code in zip(self.names, self.codes, strict=True))


def _check_mapping(classes: Any) -> None:
    """Raises: ConfigError when ids are missing, or are the keys."""
    if isinstance(classes, Mapping):
        names = list(classes.values())
        # {1: crop} instead of {crop: 1}: the error shows it the right way round.
        if names and all(isinstance(name, str) for name in names) and all(str(key).isdigit() for key in classes):
            came = ", ".join(f"{key}: {name}" for key, name in classes.items())
            turned = ", ".join(f"{name}: {key}" for key, name in classes.items())
            advice = f": 'data.classes={{{turned}}}'" if len(set(names)) == len(names) else ", each name once"
            raise ConfigError(f"data.classes={{{came}}} has ids as keys; expected NAME: ID{advice}")
        return
    names = [classes] if isinstance(classes, str) else list(classes) if isinstance(classes, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names):
        names = ["crop", "weed"]
    table = ", ".join(f"{name}: {number}" for number, name in enumerate(names, 1))
    came = f"[{', '.join(map(str, classes))}]" if isinstance(classes, list | tuple) else classes
    raise ConfigError(
        f"data.classes={came} does not give the value of each class; expected NAME: ID for each, such as "
        f"'data.classes={{{table}}}'"
    )


def _by_option(option: str, value: Codes | None, are_colors: bool) -> dict[str, Code]:
    """{option, with a place where it has several values: one code}"""
    values = list_codes(value, are_colors)
    return {option: values[0]} if len(values) == 1 else {f"{option}.{place}": code for place, code in enumerate(values)}


def list_codes(value: Codes | None, are_colors: bool) -> list[Code]:
    """The codes of an option that may have one or several: of colors, [1, 2, 3] is one; of ids it is three."""
    if value is None:
        return []
    if not isinstance(value, Sequence):
        return [value]
    values: list[Any] = list(value)
    return [values] if are_colors and all(type(part) is int for part in values) else values


def _is_color(code: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(code, Sequence) and not isinstance(code, str)


def pack_code(key: str, code: Code) -> int:
    if _is_color(code):
        if len(code) == 3 and all(type(part) is int and 0 <= part <= 255 for part in code):
            # 24 bits, so that a mask of colors becomes one of integers.
            return code[0] << 16 | code[1] << 8 | code[2]
    elif type(code) is int and 0 <= code <= 65535:
        return code
    raise ConfigError(f"{key}={code}; expected an id from 0 to 65535, or a color [red, green, blue] of 0 to 255")
