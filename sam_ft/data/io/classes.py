"""The value or color of each class in a mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from sam_ft.utils.errors import ConfigError

Code = int | Sequence[int]  # an id, or a color [red, green, blue]


@dataclass(frozen=True)
class ClassMap:
    """The codes of all classes: either ids or colors.

    names, codes: one per class; a code is an id, or a color as red * 65536 + green * 256 + blue
    ignored: the code of pixels to ignore, or None
    """

    names: tuple[str, ...]
    codes: tuple[int, ...]
    are_colors: bool
    ignored: int | None

    @classmethod
    def from_config(cls, classes: Mapping[str, Code], ignore_index: Code | None = None) -> "ClassMap":
        """Raises: ConfigError when `classes` maps no names, mixes ids and colors, or has a repeated or invalid code."""
        _check_mapping(classes)
        # By the option that holds each code, for the errors below; the code to ignore is checked with the others.
        given = {f"data.classes.{name}": code for name, code in classes.items()}
        if ignore_index is not None:
            given["data.ignore_index"] = ignore_index
        if not classes:
            raise ConfigError("data.classes is empty; expected names with ids or colors, such as '{crop: 1, weed: 2}'")
        kinds = {_is_color(code) for code in given.values()}
        if len(kinds) > 1:
            raise ConfigError(
                f"{', '.join(f'{key}={code}' for key, code in given.items())}: ids and colors are mixed; "
                "expected all of them to be ids, or all of them colors [red, green, blue]"
            )
        codes = {key: _pack_code(key, code) for key, code in given.items()}
        for key, code in codes.items():
            if twin := [other for other in codes if other != key and codes[other] == code]:
                raise ConfigError(f"{key} and {twin[0]} are both {given[key]}; expected a different value for each")
        ignored = codes.pop("data.ignore_index", None)
        return cls(tuple(map(str, classes)), tuple(codes.values()), kinds == {True}, ignored)

    @property
    def labels(self) -> tuple[int, ...]:
        """One per class: its id, or 1, 2, ... in order for colors."""
        return tuple(range(1, len(self.codes) + 1)) if self.are_colors else self.codes

    def format_code(self, code: int) -> str:
        """A code as data.classes has it."""
        # unpacks what `_pack_code` packed
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


def _is_color(code: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(code, Sequence) and not isinstance(code, str)


def _pack_code(key: str, code: Code) -> int:
    if _is_color(code):
        if len(code) == 3 and all(type(part) is int and 0 <= part <= 255 for part in code):
            # 24 bits, so that a mask of colors becomes one of integers.
            return code[0] << 16 | code[1] << 8 | code[2]
    elif type(code) is int and 0 <= code <= 65535:
        return code
    raise ConfigError(f"{key}={code}; expected an id from 0 to 65535, or a color [red, green, blue] of 0 to 255")
