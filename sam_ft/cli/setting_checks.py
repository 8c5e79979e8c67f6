"""Checks values: those of the settings that no class takes, and those of an option against its annotation."""

import types
import typing
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sam_ft.utils.errors import ConfigError
from sam_ft.utils.precision import PRECISIONS

BOOLEANS = ("activation_checkpointing", "amg", "compile", "debug", "overwrite")
# The type that YAML has for an annotation. Literals and lists of a fixed length are checked by the classes, which
# know the allowed values.
YAML_TYPES: dict[Any, type] = {kind: kind for kind in (int, float, bool, str, type(None))} | {
    Path: str,
    Sequence: list,
}
NODE = "{_target_: CLASS, ...}"
TYPE_NAMES = {
    int: "int",
    float: "float",
    bool: "bool",
    str: "text",
    list: "a list, [A,B]",
    type(None): "null",
    NODE: NODE,
}


def check_booleans(cfg: DictConfig) -> None:
    """Refuses overwrite=maybe, which Python would take for true. Raises: ConfigError"""
    for key in BOOLEANS:
        if type(cfg.get(key, False)) is not bool:
            raise ConfigError(f"{key}={cfg[key]}; expected true or false")


def check_train_settings(cfg: DictConfig) -> None:
    """Refuses wrong values of those settings of train.py that belong to no class. Raises: ConfigError"""
    or_null = ("patience", "micro_batch_size", "max_objects_per_image", "train_chunk", "eval_chunk", "eval_batch_size")
    check_whole_numbers(cfg, 1, ("epochs", "batch_size", "log_every"), or_null)
    check_whole_numbers(cfg, 0, ("seed", "workers", "pictures"))
    if cfg.precision not in PRECISIONS:
        raise ConfigError(f"precision={cfg.precision} is not one of {', '.join(PRECISIONS)}")
    if type(cfg.clip_norm) not in (int, float) or cfg.clip_norm <= 0:
        raise ConfigError(f"clip_norm={cfg.clip_norm}; expected a number above 0")


def check_whole_numbers(cfg: DictConfig, least: int, keys: Collection[str], or_null: Collection[str] = ()) -> None:
    """Refuses settings that are not integers of at least `least`; those of `or_null` may be null.

    Raises:
        ConfigError: naming the setting and the least value.
    """
    for key in (*keys, *or_null):
        allowed = cfg[key] is None and key in or_null
        if not allowed and (type(cfg[key]) is not int or cfg[key] < least):
            raise ConfigError(f"{key}={cfg[key]}; expected a whole number of at least {least}")


def check_trust(cfg: DictConfig) -> None:
    """Refuses a value of `trust` that is not a list of packages. Raises: ConfigError"""
    names = cfg.trust if OmegaConf.is_list(cfg.trust) else [None]
    if not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ConfigError(f"trust={cfg.trust}; expected a list of packages, as [mylab]")


def check_paths(cfg: DictConfig, keys: Collection[str], or_null: Collection[str] = ()) -> None:
    """Refuses settings that are no path: empty or not a text; those of `or_null` may be null.

    Raises:
        ConfigError: naming the setting.
    """
    for key in (*keys, *or_null):
        check_type(key, cfg[key], str | None if key in or_null else str)
        if cfg[key] == "":
            raise ConfigError(f"{key}= is empty; expected the path of a file or a folder")


def check_type(name: str, value: Any, annotation: Any) -> None:
    """Refuses a value of another type than the option is annotated for; it would only fail in the first step.

    name: of the option on the command line

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
        # The value itself cannot be shown in quotes: Hydra has already read 2024_01 as 202401.
        quotes = f", in quotes: '{name}=\"TEXT\"'" if str in expected and type(value) in (int, float, bool) else ""
        raise ConfigError(f"{name}={'null' if value is None else value} was given; expected {words}{quotes}")
    if isinstance(value, list):
        # Sequence[str] → str, for each item.
        for item_annotation in typing.get_args(parts[expected.index(list)]):
            for index, item in enumerate(value):
                check_type(f"{name}.{index}", item, item_annotation)


def _yaml_type(annotation: Any) -> Any:
    """The type of such a value in YAML, NODE for a class of the project or of torch; None if only the class knows."""
    found = YAML_TYPES.get(typing.get_origin(annotation) or annotation)
    if found is None and isinstance(annotation, type) and annotation.__module__.startswith(("sam_ft.", "torch.")):
        return NODE
    return found
