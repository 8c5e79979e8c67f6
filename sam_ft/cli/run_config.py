"""The config.yaml of a run: written with absolute paths and a format version, read back and compared."""

import json
import os
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sam_ft.cli.config import dotted_items
from sam_ft.training.tensor_file import FORMAT_VERSION, describe_version
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import write_atomic
from sam_ft.utils.plain_yaml import read_plain_yaml

# Options that are paths, and the one value of each that is none.
PATHS = (("data", "root", "???"), ("data", "table", "???"), ("model", "checkpoint", "official"))
# Settings that a run may change when it is continued.
CHANGEABLE = {
    "name",  # these two only say where the directory is, which may have been moved
    "run_dir",
    "epochs",
    "patience",
    "prune_after",
    "prune_jobs",
    "micro_batch_size",
    "mix",  # it comes after the training
    "activation_checkpointing",
    "compile",
    "log_every",
    "save_every_minutes",
    "workers",
    "cache._target_",
    "cache.dtype",
    "cache.max_gb",
    "train_chunk",
    "eval_chunk",
    "eval_batch_size",
    "pictures",
    "report",
    "logger",
    "overwrite",
    "debug",
}


def write_run_config(path: Path, settings: dict) -> None:
    write_atomic(path, OmegaConf.to_yaml(OmegaConf.create({"format_version": FORMAT_VERSION, **settings})))


def read_run_config(path: Path, any_version: bool = False) -> dict:
    """The settings of a config.yaml without its format version.

    Raises:
        ConfigError: it cannot be read or holds more than plain values, or another version of the project wrote it,
            unless `any_version`.
    """
    settings = read_plain_yaml(path)
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: not a configuration of this project")
    version = settings.pop("format_version", None)
    if version != FORMAT_VERSION and not any_version:
        raise ConfigError(f"{path}: {describe_version(version)}")
    return settings


def make_paths_absolute(settings: dict) -> None:
    """Changes the paths in the settings in place, so that the run can be used from another working directory."""
    for section, option, keyword in PATHS:
        part = settings.get(section)
        if isinstance(part, dict) and isinstance(part.get(option), str) and part[option] != keyword:
            part[option] = str(Path(part[option]).expanduser().absolute())
    if isinstance(settings.get("init"), str):
        settings["init"] = str(Path(settings["init"]).expanduser().absolute())


def check_same_run(directory: Path, old: dict, new: dict) -> None:
    """Refuses to continue a run with other settings, apart from those in CHANGEABLE.

    Raises:
        ConfigError: naming up to five settings that differ.
    """
    then, now = _comparable(old), _comparable(new)
    changes = [
        f"{name}: {json.dumps(then.get(name))} there, {json.dumps(now.get(name))} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if changes:
        raise ConfigError(
            f"{directory} holds a run with other settings ({'; '.join(changes[:5])}). "
            "Choose another name=..., or start anew with overwrite=true"
        )


def _comparable(settings: dict) -> dict[str, Any]:
    """The settings that must stay, by dotted name."""
    found = {name: value for name, value in dotted_items(settings) if not isinstance(value, dict)}
    for section, option, keyword in PATHS:
        name = f"{section}.{option}"
        if isinstance(found.get(name), str) and found[name] != keyword:  # a folder may have several, through links
            found[name] = os.path.realpath(found[name])
    # An empty list is no value: the option may be newer than the run.
    return {
        name: None if value == [] else value
        for name, value in found.items()
        if name not in CHANGEABLE and name.split(".")[0] not in CHANGEABLE
    }
