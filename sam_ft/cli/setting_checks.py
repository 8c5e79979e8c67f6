"""Checks the settings at the top of a script's configuration, which no class takes: names, booleans, numbers, paths."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from sam_ft.cli.hints import (
    closest_name,
    config_groups,
    describe_mounted_group,
    describe_unknown_setting,
    list_choices,
    setting_names,
)
from sam_ft.cli.type_checks import check_type
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.precision import PRECISIONS


def check_setting_names(cfg: DictConfig) -> None:
    """Refuses settings that no code reads: +epoch=1 on the command line, or epoch: 1 in an experiment file.

    A file may have names of its own, to interpolate elsewhere in it, as long as they are not close to a setting.
    Inside the groups, `sam_ft.cli.config.build` compares with the signatures of the classes.

    Raises:
        ConfigError: naming the closest setting that exists.
    """
    script = _script_config()
    known, groups, values = setting_names(script), config_groups(script), plain_settings(cfg)
    # Hydra refuses unknown names itself, but not those that are added with +.
    overrides = HydraConfig.get().overrides.task
    added = [text.lstrip("+").partition("=") for text in overrides if text.startswith("+")]
    for name, _, value in added:
        # +prompt=box, where the group is prompt@train_prompt.
        mounted = [typed for typed in groups.values() if typed.startswith(f"{name}@")]
        if mounted:
            raise ConfigError(describe_mounted_group(name, value, mounted))
    names = [name.split("@")[-1].split(".")[0] for name, *_ in added]
    if "experiment" in known:  # only in train.yaml: data=demo brings settings of training into any script
        names += [str(name) for name in cfg if closest_name(str(name), known)]
    for name in names:
        if name not in known:
            raise ConfigError(describe_unknown_setting(name, known, values))
    # A group is settings by name, or null; never a bare value.
    for group in groups:
        if not isinstance(values.get(group, {}), dict | None):
            raise ConfigError(list_choices(f"{group}={values[group]}", group))


def check_booleans(cfg: DictConfig) -> None:
    """Refuses overwrite=maybe, which Python would take for true; a setting is a boolean if the script's YAML has one.

    Raises:
        ConfigError: naming the setting.
    """
    defaults: Any = OmegaConf.to_container(OmegaConf.load(_script_config()), resolve=False)
    for key, value in defaults.items():
        if isinstance(value, bool) and type(cfg[key]) is not bool:
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


def check_paths(cfg: DictConfig, keys: Collection[str], or_null: Collection[str] = ()) -> None:
    """Refuses settings that are no path: empty or not a text; those of `or_null` may be null.

    Raises:
        ConfigError: naming the setting.
    """
    for key in (*keys, *or_null):
        check_type(key, cfg[key], str | None if key in or_null else str)
        if cfg[key] == "":
            raise ConfigError(f"{key}= is empty; expected the path of a file or a folder")


def plain_settings(cfg: DictConfig) -> dict[str, Any]:
    """All settings as plain values, unresolved and without the `hydra` node."""
    values: Any = OmegaConf.to_container(cfg, resolve=False)
    return {str(name): value for name, value in values.items() if name != "hydra"}


def _script_config() -> Path:
    """The main YAML file of the running script, before its choices are merged in."""
    settings = HydraConfig.get()
    folder = next(source.path for source in settings.runtime.config_sources if source.provider == "main")
    return Path(folder, f"{settings.job.config_name}.yaml")
