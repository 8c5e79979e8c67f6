"""From a configuration node to an object, and from a configuration to the directory of its run."""

import inspect
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sam_ft.cli.setting_checks import check_type
from sam_ft.utils.errors import ConfigError

# `build` reports a target that cannot be found; Hydra would log it a second time
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())


def choice_of(group: str) -> str:
    """The choice of a config group, as "box" of "prompt@eval_prompt"."""
    return HydraConfig.get().runtime.choices[group]


def is_sweep_job() -> bool:
    """Whether this is one of the jobs of `train.py -m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _default_name() -> str:
    """Names a run after its model and data; the jobs of a sweep, which may differ in both, share one folder."""
    if not HydraConfig.initialized() or is_sweep_job():
        return "sweep"
    choices = HydraConfig.get().runtime.choices
    return f"{choices['model']}-{choices['data']}"


def _default_monitor(only: str | None, *, _root_: DictConfig) -> str:
    """The scores of prompts do not depend on a head, so a head that learns alone has one of its own."""
    if only != "head":
        return "iou"
    return "miou" if str(OmegaConf.select(_root_, "head._target_")).endswith(".SemanticHead") else "msa"


def _default_components(*, _root_: DictConfig) -> bool:
    """Whether components are objects for a semantic head: not where all of a mask is one in training."""
    return OmegaConf.select(_root_, "data.objects") != "whole"


# For ${default_name:} and ${default_monitor:...} in conf/train.yaml, and ${default_components:} in a head's.
OmegaConf.register_new_resolver("default_name", _default_name, replace=True)
OmegaConf.register_new_resolver("default_monitor", _default_monitor, replace=True)
OmegaConf.register_new_resolver("default_components", _default_components, replace=True)


def build(cfg: Any, **arguments: Any) -> Any:
    """Instantiates a config node with plain Python values: lists arrive as list, not as Hydra's ListConfig.

    Raises:
        ConfigError: an option is missing, unknown or of another type, or the class refuses its value (ValueError);
            named as on the command line, such as cache.max_gb=0.
    """
    if not OmegaConf.is_dict(cfg) or "_target_" not in cfg:
        raise ConfigError(
            f"{cfg!r} stands where one of the choices in conf/ is expected; write the whole name of the group, "
            "such as prompt@train_prompt=box"
        )
    where = cfg._get_full_key("")  # empty for a node outside any larger configuration
    check_signature(OmegaConf.to_container(cfg, resolve=True), arguments, where)
    try:
        return hydra.utils.instantiate(cfg, **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, ValueError):
            raise ConfigError(_prefix(where or cfg._target_, cfg, cause or error)) from error
        # A UserError or a bug: raise it itself, since Hydra's wrapper hides where it was raised.
        raise cause from cause.__cause__


def check_signature(node: Any, arguments: dict[str, Any], where: str = "") -> None:
    """Binds the options of a node, and of all nodes in it, to the signatures of their targets.

    This precedes the call, since a TypeError out of the call can also be a bug inside it.

    where: the node's name on the command line

    Raises:
        ConfigError: naming the node, the option, its value and the accepted options or types.
    """
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, inner in inside:
        check_signature(inner, {}, f"{where}.{key}".lstrip("."))
    # _partial_ and _args_ are left to the user's own conf/, and Hydra checks them
    if not isinstance(node, dict) or "_target_" not in node or node.keys() & {"_partial_", "_args_"}:
        return
    where = where or str(node["_target_"])
    options = {key: value for key, value in node.items() if key not in ("_target_", "_convert_", "_recursive_")}
    # Names and number of options first, then the type of each.
    try:
        signature = inspect.signature(hydra.utils.get_object(node["_target_"]))
    except Exception as error:  # of any type, out of a module that is imported
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from error
    try:
        signature.bind(**{**options, **arguments})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}; it takes {', '.join(signature.parameters) or 'no options'}") from error
    for key, value in options.items():
        if key in signature.parameters:
            check_type(f"{where}.{key}", value, signature.parameters[key].annotation)


def _prefix(where: str, options: Collection[str], problem: Any) -> str:
    """Puts the node's name before a class's message: max_gb=0 in cache becomes cache.max_gb=0."""
    return f"{where}{'.' if str(problem).split('=')[0] in options else ': '}{problem}"


def dotted_items(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All settings by their names on the command line, groups included: loss, loss.terms, loss.terms.bce, ..."""
    for key, value in settings.items():
        yield f"{above}{key}", value
        if isinstance(value, dict):
            yield from dotted_items(value, f"{above}{key}.")


def run_directory(cfg: DictConfig) -> Path:
    """run_dir, or in a sweep the numbered folder of this job below it.

    Raises:
        ConfigError: run_dir, or the name at its end, is empty or not a text.
    """
    name = cfg.get("name", "sweep")
    if type(name) not in (str, int, float) or not Path(str(name)).name.strip(" ."):
        raise ConfigError(f"name={'null' if name is None else name}; expected a name for the run's folder")
    if not is_sweep_job():
        return Path(cfg.run_dir).expanduser()
    # Hydra numbers the jobs; the program makes the folder.
    sweep = HydraConfig.get().sweep
    return Path(sweep.dir, sweep.subdir).expanduser()
