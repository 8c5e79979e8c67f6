"""Between YAML and plain values: what a configuration node becomes, and where a run of it is written."""

import importlib
import inspect
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sam_ft.cli.hints import closest
from sam_ft.cli.type_checks import check_type
from sam_ft.utils.errors import ConfigError

# what cannot be found is said by `build`; Hydra would log it beside that
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())


def in_sweep() -> bool:
    """Whether this is one of the jobs of `train.py -m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _default_name() -> str:
    """A run is called after its model and data; the jobs of a sweep, which may differ in both, share one folder."""
    if not HydraConfig.initialized() or in_sweep():
        return "sweep"
    choices = HydraConfig.get().runtime.choices
    return f"{choices['model']}-{choices['data']}"


OmegaConf.register_new_resolver("default_name", _default_name, replace=True)


def build(cfg: Any, **arguments: Any) -> Any:
    """Instantiates a config node with plain Python values; lists arrive as lists, not as Hydra's own kind.

    Raises:
        ConfigError: an option is missing, unknown or of another type, or the class refuses its value (ValueError);
            named as it is typed on the command line, such as cache.max_gb=0.
    """
    if not OmegaConf.is_dict(cfg) or "_target_" not in cfg:
        raise ConfigError(
            f"{cfg!r} stands where one of the choices in conf/ is expected; write the whole name of the group, "
            "such as prompt@train_prompt=box"
        )
    where = cfg._get_full_key("")  # of a node without a place in a larger configuration: nothing
    check_options(OmegaConf.to_container(cfg, resolve=True), arguments, where)
    try:
        return hydra.utils.instantiate(cfg, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, ValueError):
            raise ConfigError(_at(where or cfg._target_, cfg, cause or error)) from error
        # A mistake that was already put into words, or a fault of the program: Hydra would hide where it was raised.
        raise cause from cause.__cause__


def check_options(node: Any, arguments: dict[str, Any], where: str = "") -> None:
    """Compares the options of a node, and of the nodes in it, with the signatures of what they will be given to.

    It is done beforehand, since a TypeError out of the call may as well be a fault inside it.

    where: what the node is called on the command line

    Raises:
        ConfigError: naming the node, the option, what came and what it takes.
    """
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in inside:
        check_options(inner, {}, f"{where}.{key}".lstrip("."))
    # what is called later or by position is for the user's own conf/, and Hydra checks it
    if not isinstance(node, dict) or "_target_" not in node or node.keys() & {"_partial_", "_args_"}:
        return
    where = where or str(node["_target_"])
    options = {key: value for key, value in node.items() if key not in ("_target_", "_convert_", "_recursive_")}
    signature = inspect.signature(_find(node["_target_"], where))
    try:
        signature.bind(**{**options, **arguments})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}; it takes {', '.join(signature.parameters) or 'no options'}") from error
    for key, value in options.items():
        if key in signature.parameters:
            check_type(f"{where}.{key}", value, signature.parameters[key].annotation)


def check_whole_numbers(cfg: DictConfig, least: int, keys: Collection[str], or_null: Collection[str] = ()) -> None:
    """Looks at settings of the scripts themselves, which belong to no class.

    Raises:
        ConfigError: one of `keys` is no whole number of at least `least`, or one of `or_null` neither that nor null.
    """
    for key in (*keys, *or_null):
        allowed = cfg[key] is None and key in or_null
        if not allowed and (type(cfg[key]) is not int or cfg[key] < least):
            raise ConfigError(f"{key}={cfg[key]}; expected a whole number of at least {least}")


def check_paths(cfg: DictConfig, keys: Collection[str], or_null: Collection[str] = ()) -> None:
    """Looks at those settings of the scripts themselves that name files and folders.

    Raises:
        ConfigError: one of `keys` is no text or empty, or one of `or_null` neither text nor null.
    """
    for key in (*keys, *or_null):
        check_type(key, cfg[key], str | None if key in or_null else str)
        if cfg[key] == "":
            raise ConfigError(f"{key}= is empty; expected the path of a file or a folder")


def _find(name: Any, where: str) -> Callable:
    try:
        target = hydra.utils.get_object(name)
    except Exception as error:
        raise ConfigError(f"{where}: _target_={name} cannot be found; {_instead(str(name))}") from error
    if not callable(target):
        raise ConfigError(f"{where}: _target_={name} is a {type(target).__name__}; expected a class or a function")
    return target


def _instead(name: str) -> str:
    """What may be meant by the name of a class that cannot be found."""
    module, _, last = name.rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        return f"{reason}; expected MODULE.CLASS, such as sam_ft.losses.Dice"
    names = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
    close = closest(last, names)
    return f"did you mean {module}.{close}?" if close else f"{module} has {', '.join(sorted(names)) or 'none'}"


def _at(where: str, options: Collection[str], problem: Any) -> str:
    """Puts the node before what is wrong in it: max_gb=0 of cache becomes cache.max_gb=0."""
    return f"{where}{'.' if str(problem).split('=')[0] in options else ': '}{problem}"


def run_directory(cfg: DictConfig) -> Path:
    """run_dir, or in a sweep the numbered folder of this job below it.

    Raises:
        ConfigError: it, or the name at its end, is empty or no text.
    """
    name = cfg.get("name", "sweep")
    if type(name) not in (str, int, float) or not Path(str(name)).name.strip(" ."):
        raise ConfigError(f"name={'null' if name is None else name}; expected a name for the run's folder")
    check_paths(cfg, ("run_dir",))
    if not in_sweep():
        return Path(cfg.run_dir).expanduser()
    sweep = HydraConfig.get().sweep
    return Path(sweep.dir, sweep.subdir).expanduser()
