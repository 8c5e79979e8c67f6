"""What a configuration that came with a checkpoint may call: nothing but the parts of this project."""

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from sam_ft.utils.errors import ConfigError

# It may call classes defined in these modules or below them, and five functions; others of the project's functions
# write files where they are told. The user's own conf/ may call anything.
PARTS = (
    "sam_ft.adapt",
    "sam_ft.cache",
    "sam_ft.data",
    "sam_ft.losses",
    "sam_ft.metrics",
    "sam_ft.prompts",
    "sam_ft.training.loggers",
    "sam_ft.training.optim",
    "torchvision.transforms.v2",
)
FUNCTIONS = (
    "sam_ft.cache.store.no_store",
    "sam_ft.data.sources.synthetic.demo",
    "sam_ft.training.loggers.no_tracker",
    "sam_ft.models.build_model",
    "sam_ft.training.optim.adamw",
)


def check_trusted(node: Any, path: Path) -> None:
    """Refuses plain settings that could call anything but this project's classes and torchvision's transforms.

    Raises:
        ConfigError: naming the file and the target, Hydra key or leftover interpolation.
    """
    if isinstance(node, str) and "${" in node:  # what is checked must be what is built: nothing may resolve later
        raise ConfigError(f"{path}: {node} is still to be resolved; write the value itself")
    if isinstance(node, list):
        for value in node:
            check_trusted(value, path)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_" and not _is_trusted(value):
                raise ConfigError(
                    f"{path}: _target_: {value} is not a part of sam_ft; a configuration that came with a checkpoint "
                    "may not call it. If you wrote it yourself, move the class into sam_ft/"
                )
            if str(key).startswith("_") and key != "_target_":  # _partial_, _args_: they change what is called, and how
                raise ConfigError(f"{path}: {key}: a configuration that came with a checkpoint may not use this key")
            check_trusted(value, path)


def _is_trusted(target: Any) -> bool:
    """Both the name and what it leads to must be of the parts: `sam_ft.losses.nn.Module` begins well and ends badly."""
    if not isinstance(target, str) or target in FUNCTIONS:
        return isinstance(target, str)
    module, _, name = target.rpartition(".")
    if not _in_parts(module):  # before the import, which runs the module
        return False
    try:
        found = getattr(import_module(module), name)
    except Exception:  # whatever a strange name raises
        return False
    own = isinstance(found, type) and _in_parts(found.__module__)
    return own and (module.startswith("sam_ft.") or issubclass(found, nn.Module))


def _in_parts(module: str) -> bool:
    return any(f"{module}.".startswith(f"{part}.") for part in PARTS)
