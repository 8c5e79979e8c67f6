"""What a class's signature asks for, beside what the configuration gives."""

import shlex
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sam_ft.utils.errors import ConfigError

# What annotations ask for, as it comes out of YAML. Named values, and lists of a fixed length, are left to the classes,
# which know what belongs into them.
KINDS: dict[Any, type] = {kind: kind for kind in (int, float, bool, str, type(None))} | {Path: str, Sequence: list}
MADE = "{_target_: CLASS, ...}"
WORDS = {int: "int", float: "float", bool: "bool", str: "text", list: "a list", type(None): "null", MADE: MADE}


def check_type(name: str, value: Any, annotation: Any, quote: bool = True) -> None:
    """Refuses a value that an option is not annotated for: a word for a number would only fail in the first step.

    name: of the option on the command line · quote: whether it can be typed alone, as items of a list cannot

    Raises:
        ConfigError: naming the option, what came and what was expected.
    """
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = typing.get_args(annotation) if union else (annotation,)
    kinds = [_kind(part) for part in parts]
    # a missing value is left to Hydra, which says its whole name
    if value == "???" or None in kinds or (isinstance(value, dict) and "_target_" in value):
        return
    # a whole number is a float too, but True is not a number
    if type(value) not in ([*kinds, int] if float in kinds else kinds):
        expected = " or ".join(dict.fromkeys(WORDS[kind] for kind in kinds))
        typed = _quoted(name, value, kinds) if quote else ""
        raise ConfigError(f"{name}={'null' if value is None else value} was given; expected {expected}{typed}")
    if isinstance(value, list):
        for inner in typing.get_args(parts[kinds.index(list)]):
            for place, item in enumerate(value):
                check_type(f"{name}.{place}", item, inner, quote=False)


def _kind(annotation: Any) -> Any:
    """What stands in YAML for it; None for what only the class knows."""
    kind = KINDS.get(typing.get_origin(annotation) or annotation)
    if kind is None and isinstance(annotation, type) and annotation.__module__.startswith(("sam_ft.", "torch.")):
        return MADE
    return kind


def _quoted(name: str, value: Any, kinds: Collection[Any]) -> str:
    """What to type for a value that only lacks its quotes or brackets."""
    # not taken for text without them: Hydra has read 2024_01 as 202401 by now
    if str in kinds and type(value) in (int, float, bool):
        return ": " + shlex.quote(f'{name}="{value}"')
    if list in kinds and isinstance(value, str):
        return ": " + shlex.quote(f'{name}=["{value}"]')
    return ""
