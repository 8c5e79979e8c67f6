"""The config.yaml of a run: written with absolute paths and a format version, read back and compared."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sam_ft.training.tensor_file import FORMAT_VERSION
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path

# Settings that a run may change when it is continued.
CHANGEABLE = {
    "name",  # these two only say where the directory is, which may have been moved
    "run_dir",
    "epochs",
    "patience",
    "micro_batch_size",
    "activation_checkpointing",
    "compile",
    "log_every",
    "workers",
    "cache._target_",
    "cache.dtype",
    "cache.max_gb",
    "train_chunk",
    "eval_chunk",
    "eval_batch_size",
    "pictures",
    "logger",
    "overwrite",
    "debug",
}


def write_run_config(path: Path, settings: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create({"format_version": FORMAT_VERSION, **settings})))


def read_run_config(path: Path, any_version: bool = False) -> dict:
    """The settings of a config.yaml, with interpolations resolved and without its format version.

    Raises:
        ConfigError: it cannot be read, or another version of the project wrote it, unless `any_version`.
    """
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except Exception as error:  # yaml and omegaconf raise a dozen types
        raise ConfigError(f"{path}: cannot be read: {str(error).split(chr(10))[0]}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: not a configuration of this project")
    version = settings.pop("format_version", None)
    if version != FORMAT_VERSION and not any_version:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        age, remedy = ("a newer", "update sam-ft") if newer else ("an older", "train again under another name=")
        came = "no format_version" if version is None else f"format_version {version}"
        raise ConfigError(
            f"{path}: was written by {age} version of sam-ft ({came}, expected {FORMAT_VERSION}); {remedy}"
        )
    return settings


def make_paths_absolute(settings: dict, resolve: bool = False) -> None:
    """Changes the paths in the settings in place, so that the run can be used from another working directory.

    resolve: follow .. and links too; only for comparing, since a link's target may have a name that says nothing
    """
    for section, option, keyword in (
        ("data", "root", "???"),
        ("data", "table", "???"),
        ("model", "checkpoint", "official"),
    ):
        # A section may be missing or null.
        part = settings.get(section)
        value = part.get(option) if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(value, str) and value != keyword:
            path = Path(value).expanduser()
            part[option] = str(path.resolve() if resolve else path.absolute())


def check_same_run(directory: Path, old: dict, new: dict) -> None:
    """Refuses to continue a run with other settings, apart from those in CHANGEABLE.

    Raises:
        ConfigError: naming up to five settings that differ.
    """
    old, new = deepcopy(old), deepcopy(new)  # they are changed in place below
    for settings in (old, new):
        make_paths_absolute(settings, resolve=True)
    changes = _changed_settings(old, new)
    if changes:
        raise ConfigError(
            f"{directory} holds a run with other settings ({'; '.join(changes[:5])}). "
            "Choose another name=..., or start anew with overwrite=true"
        )


def _changed_settings(old: Any, new: Any, where: str = "") -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        old, new = (None if value == [] else value for value in (old, new))  # an option added after the run was made
        return [] if old == new else [f"{where}: {json.dumps(old)} there, {json.dumps(new)} now"]
    changes = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{where}.{key}".lstrip(".")
        if name not in CHANGEABLE:
            changes += _changed_settings(old.get(key), new.get(key), name)
    return changes
