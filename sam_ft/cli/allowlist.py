"""The allowlist of a configuration that came with a checkpoint: parts of this project and trusted packages."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sam_ft.utils.errors import ConfigError

# Classes defined in or below these modules, and three functions: all that is built of a run. Other functions of the
# project write files at paths that they are given. The user's own conf/ may call anything.
ALLOWED_MODULES = (
    "sam_ft.cache",
    "sam_ft.data",
    "sam_ft.metrics",
    "sam_ft.prompts",
)
ALLOWED_FUNCTIONS = (
    "sam_ft.cache.no_cache",
    "sam_ft.data.sources.synthetic.demo",
    "sam_ft.models.build_model",
)


# For each part of a run that is built again: the package of its classes, and a method that these must have.
PARTS = {
    "data": ("sam_ft.data", "split"),
    "model": ("sam_ft.models", "encode"),
    "metric": ("sam_ft.metrics", "check_monitor"),
    "cache": ("sam_ft.cache", "fill"),
    "eval_prompt": ("sam_ft.prompts", "split"),
}


def check_part(name: str, part: Any, path: Path, trust: Sequence[str] = ()) -> None:
    """Refuses a part that the allowlist allows, but in another place, such as a metric as the model.

    Raises:
        ConfigError: naming the file, the part and its value.
    """
    target = part.get("_target_") if isinstance(part, dict) else None
    if target is None:
        raise ConfigError(f"{path}: {name}: {part}; expected _target_: CLASS and its options")
    check_allowlist(part, path, trust)
    module, _, own_name = target.rpartition(".")
    package, method = PARTS[name]
    if _lies_in(module, trust):
        return
    if not _lies_in(module, [package]) or not (
        target in ALLOWED_FUNCTIONS or hasattr(getattr(import_module(module), own_name), method)
    ):
        raise ConfigError(f"{path}: {name}: {target} cannot be the {name}; expected a choice of conf/{name}")


def check_allowlist(node: Any, path: Path, trust: Sequence[str] = ()) -> None:
    """Refuses settings that could call anything but this project's models, data, metrics, prompts and cache.

    node: plain values, already resolved · path: of the file they came from, for the message
    trust: packages whose own classes and functions may be called too; they are imported

    Raises:
        ConfigError: naming the file and the target, Hydra key or leftover interpolation.
    """
    if isinstance(node, str) and "${" in node:  # the checked values must be the built ones: nothing may resolve later
        raise ConfigError(f"{path}: {node} is still to be resolved; write the value itself")
    if isinstance(node, list):
        for value in node:
            check_allowlist(value, path, trust)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_" and not _is_allowed(value, trust):
                raise ConfigError(
                    f"{path}: _target_: {value} is not a part of sam_ft; a configuration that came with a checkpoint "
                    "may not call it. If it is code of your own, trust=[PACKAGE] allows its package"
                )
            if str(key).startswith("_") and key != "_target_":  # _partial_, _args_ change the call
                raise ConfigError(f"{path}: {key}: a configuration that came with a checkpoint may not use this key")
            check_allowlist(value, path, trust)


def _is_allowed(target: Any, trust: Sequence[str]) -> bool:
    """Checks both the name and the class behind it: `sam_ft.data.datasets.Dataset` is not one of the project's."""
    if not isinstance(target, str) or target in ALLOWED_FUNCTIONS:
        return isinstance(target, str)
    module, _, name = target.rpartition(".")
    trusted = _lies_in(module, trust)
    if not trusted and not _lies_in(module, ALLOWED_MODULES):  # before the import, which runs the module
        return False
    try:
        found = getattr(import_module(module), name)
    except Exception:  # a strange name can raise any type
        return False
    if trusted:  # what the package defines itself: not os.system, which it may have imported
        return callable(found) and _lies_in(str(getattr(found, "__module__", "")), trust)
    return isinstance(found, type) and _lies_in(found.__module__, ALLOWED_MODULES)


def _lies_in(module: str, packages: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)
