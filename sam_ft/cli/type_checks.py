"""Compares a configuration value with the annotation of the parameter that takes it."""

import shlex
import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from sam_ft.utils.errors import ConfigError

# The type that YAML has for an annotation. Literals and lists of a fixed length are checked by the classes, which
# know the allowed values.
YAML_TYPES: dict[Any, type] = {kind: kind for kind in (int, float, bool, str, type(None))} | {
    Path: str,
    Sequence: list,
}
NODE = "{_target_: CLASS, ...}"
TYPE_NAMES = {int: "int", float: "float", bool: "bool", str: "text", list: "a list", type(None): "null", NODE: NODE}


def check_type(name: str, value: Any, annotation: Any, suggest: bool = True) -> None:
    """Refuses a value of another type than the option is annotated for; it would only fail in the first step.

    name: of the option on the command line · suggest: add the override to type; items of a list have none

    Raises:
        ConfigError: naming the option, the value and the expected types.
    """
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)  # Optional[int] and int | None
    parts = typing.get_args(annotation) if union else (annotation,)
    expected = [_yaml_type(part) for part in parts]
    # Hydra itself reports a missing value, by its full name
    if value == "???" or None in expected or (isinstance(value, dict) and "_target_" in value):
        return
    # an int is a float too, but True is not a number
    if type(value) not in ([*expected, int] if float in expected else expected):
        words = " or ".join(dict.fromkeys(TYPE_NAMES[kind] for kind in expected))
        suggestion = _suggest_quotes(name, value, expected) if suggest else ""
        raise ConfigError(f"{name}={'null' if value is None else value} was given; expected {words}{suggestion}")
    if isinstance(value, list):
        # Sequence[str] → str, for each item.
        for item_annotation in typing.get_args(parts[expected.index(list)]):
            for index, item in enumerate(value):
                check_type(f"{name}.{index}", item, item_annotation, suggest=False)


def _yaml_type(annotation: Any) -> Any:
    """The type of such a value in YAML, NODE for a class of the project or of torch; None if only the class knows."""
    found = YAML_TYPES.get(typing.get_origin(annotation) or annotation)
    if found is None and isinstance(annotation, type) and annotation.__module__.startswith(("sam_ft.", "torch.")):
        return NODE
    return found


def _suggest_quotes(name: str, value: Any, expected: Collection[Any]) -> str:
    """The override to type for a value that only lacks its quotes or brackets, else nothing."""
    # the value cannot be converted here: Hydra has already read 2024_01 as 202401
    if str in expected and type(value) in (int, float, bool):
        return ": " + shlex.quote(f'{name}="{value}"')
    if list in expected and isinstance(value, str):
        return ": " + shlex.quote(f'{name}=["{value}"]')
    return ""
