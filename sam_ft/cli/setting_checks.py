"""Checks values against types: settings that no class takes, and options of classes against their annotations."""

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sam_ft.utils.errors import ConfigError
from sam_ft.utils.precision import PRECISIONS

# The types of values in YAML, as a message names them, and NODE for an object of a class.
TYPE_NAMES = {int: "int", float: "float", bool: "true or false", str: "text", list: "a list, [A,B]", type(None): "null"}
NODE = "{_target_: CLASS, ...}"


def check_train_settings(cfg: DictConfig) -> None:
    """Refuses wrong values of those settings of train.py that belong to no class. Raises: ConfigError"""
    counts = ("patience", "prune_after", "micro_batch_size", "max_objects_per_image")
    or_null = (*counts, "train_chunk", "eval_chunk", "eval_batch_size")
    check_settings(cfg, int, ("epochs", "batch_size", "log_every", "prune_jobs"), least=1)
    check_settings(cfg, int | None, or_null, least=1)
    check_settings(cfg, int, ("seed", "workers", "pictures"), least=0)
    check_settings(cfg, bool, ("overwrite", "activation_checkpointing", "compile", "debug"))
    check_type("report.names", OmegaConf.select(cfg, "report.names"), bool)
    check_settings(cfg, str, ("run_dir",))
    check_settings(cfg, str | None, ("init",))
    if cfg.train_only not in (None, "head"):
        raise ConfigError(f"train_only={cfg.train_only} is not known; expected head or null")
    if (cfg.init is None) != (cfg.train_only is None):
        raise ConfigError(
            "init= and train_only=head go together: the run on top of which a head is trained alone, as "
            "init=outputs/NAME head=instances train_only=head"
        )
    check_settings(cfg, float, ("clip_norm",))
    check_settings(cfg, float | None, ("ema", "save_every_minutes"))
    if cfg.save_every_minutes is not None and not cfg.save_every_minutes > 0:  # nan neither
        raise ConfigError(
            f"save_every_minutes={cfg.save_every_minutes}; expected a number above 0, such as 15, or null"
        )
    if cfg.precision not in PRECISIONS:
        raise ConfigError(f"precision={cfg.precision} is not one of {', '.join(PRECISIONS)}")
    if not cfg.clip_norm > 0:  # nan neither
        raise ConfigError(f"clip_norm={cfg.clip_norm}; expected a number above 0")
    check_settings(cfg, Sequence[float] | None, ("mix",))
    if cfg.mix is not None and not (cfg.mix and all(0 < share < 1 for share in cfg.mix)):
        raise ConfigError(
            f"mix={cfg.mix}; expected shares of the best epoch above 0 and below 1, such as [0.5,0.75], or null"
        )
    if cfg.ema is not None and not 0 < cfg.ema < 1:
        raise ConfigError(f"ema={cfg.ema}; expected a number above 0 and below 1, such as 0.99, or null")


def check_settings(cfg: DictConfig, annotation: Any, names: Sequence[str], least: int | None = None) -> None:
    """Refuses settings of another type, numbers below `least`, and empty texts, which are no paths.

    Raises:
        ConfigError: naming the setting, its value and the expected one.
    """
    for name in names:
        value = cfg[name]
        check_type(name, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, annotation, least)
        if value == "":
            raise ConfigError(f"{name}= is empty; expected the path of a file or a folder")


def check_type(name: str, value: Any, annotation: Any, least: int | None = None) -> None:
    """Refuses a value of another type than the option is annotated for; it would only fail in the first step.

    name: of the option on the command line · least: the smallest number

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
    fits = type(value) in ([*expected, int] if float in expected else expected)
    if not fits or (least is not None and value is not None and value < least):
        words = " or ".join(dict.fromkeys(TYPE_NAMES.get(kind, NODE) for kind in expected))
        words += "" if least is None else f", at least {least}"
        # The value itself cannot be shown in quotes: Hydra has already read 2024_01 as 202401.
        quotes = f", in quotes: '{name}=\"TEXT\"'" if str in expected and type(value) in (int, float, bool) else ""
        raise ConfigError(f"{name}={'null' if value is None else value}; expected {words}{quotes}")
    if isinstance(value, list):
        # Sequence[str] → str, for each item.
        for item_annotation in typing.get_args(parts[expected.index(list)]):
            for index, item in enumerate(value):
                check_type(f"{name}.{index}", item, item_annotation)


def _yaml_type(annotation: Any) -> Any:
    """The type of such a value in YAML, NODE for a class of the project or of torch; None if only the class knows.

    The classes check Literals and lists of a fixed length, of which they know the allowed values.
    """
    kind = typing.get_origin(annotation) or annotation
    found = {Path: str, Sequence: list}.get(kind, kind)
    if found in TYPE_NAMES:
        return found
    of_project = isinstance(annotation, type) and annotation.__module__.startswith(("sam_ft.", "torch."))
    return NODE if of_project else None
