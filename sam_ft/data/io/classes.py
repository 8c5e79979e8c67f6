"""The table that says which value or color of a mask is which class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from sam_ft.utils.errors import ConfigError

Code = int | Sequence[int]  # an id, or a color [red, green, blue]


@dataclass(frozen=True)
class Classes:
    """Classes by name, all by ids or all by colors.

    codes: the ids, or the colors as red * 65536 + green * 256 + blue · ignored: one more of them, or None
    """

    names: tuple[str, ...]
    codes: tuple[int, ...]
    are_colors: bool
    ignored: int | None

    @classmethod
    def of(cls, classes: Mapping[str, Code], ignore_index: Code | None = None) -> "Classes":
        """Raises: ConfigError when it is no table, mixes ids and colors, or has a code twice or of neither kind."""
        _check_is_table(classes)
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
        codes = {key: _packed(key, code) for key, code in given.items()}
        for key, code in codes.items():
            if twin := [other for other in codes if other != key and codes[other] == code]:
                raise ConfigError(f"{key} and {twin[0]} are both {given[key]}; expected a value of its own for each")
        ignored = codes.pop("data.ignore_index", None)
        return cls(tuple(map(str, classes)), tuple(codes.values()), kinds == {True}, ignored)

    @property
    def labels(self) -> tuple[int, ...]:
        """One per class: its id, or for colors 1, 2, ... in the table's order."""
        return tuple(range(1, len(self.codes) + 1)) if self.are_colors else self.codes

    def shown(self, code: int) -> str:
        """A code as it is written in the table."""
        return str([code >> 16, code >> 8 & 255, code & 255] if self.are_colors else code)

    def __str__(self) -> str:
        return ", ".join(f"{name} {self.shown(code)}" for name, code in zip(self.names, self.codes, strict=True))


def _check_is_table(classes: Any) -> None:
    """Raises: ConfigError when names come without ids, or ids before names."""
    if isinstance(classes, Mapping):
        names = list(classes.values())
        if names and all(isinstance(name, str) for name in names) and all(str(key).isdigit() for key in classes):
            came = ", ".join(f"{key}: {name}" for key, name in classes.items())
            turned = ", ".join(f"{name}: {key}" for key, name in classes.items())
            advice = f": 'data.classes={{{turned}}}'" if len(set(names)) == len(names) else ", each name once"
            raise ConfigError(f"data.classes={{{came}}} is the wrong way round; expected NAME: ID{advice}")
        return
    names = [classes] if isinstance(classes, str) else list(classes) if isinstance(classes, Sequence) else []
    if not names or not all(isinstance(name, str) for name in names):
        names = ["crop", "weed"]
    table = ", ".join(f"{name}: {number}" for number, name in enumerate(names, 1))
    came = f"[{', '.join(map(str, classes))}]" if isinstance(classes, list | tuple) else classes
    raise ConfigError(
        f"data.classes={came} does not say which value of a mask is which class; expected NAME: ID for each, such as "
        f"'data.classes={{{table}}}'"
    )


def _is_color(code: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(code, Sequence) and not isinstance(code, str)


def _packed(key: str, code: Code) -> int:
    if _is_color(code):
        if len(code) == 3 and all(type(part) is int and 0 <= part <= 255 for part in code):
            return code[0] << 16 | code[1] << 8 | code[2]
    elif type(code) is int and 0 <= code <= 65535:
        return code
    raise ConfigError(f"{key}={code}; expected an id from 0 to 65535, or a color [red, green, blue] of 0 to 255")
