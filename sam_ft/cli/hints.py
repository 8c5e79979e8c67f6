"""One line for a mistake on the command line: the closest name to a mistyped one, or Hydra's own words."""

import difflib
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.main import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sam_ft.utils.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())  # a wheel; a clone
UNKNOWN = (ConfigAttributeError, ConfigKeyError)
INSTEAD = {  # settings of other projects
    "device": "a GPU is used if torch finds one, and the variable CUDA_VISIBLE_DEVICES selects it",
    "learning_rate": "did you mean optimizer.lr?",
}


def check_flags() -> None:
    """Refuses `--epochs 3` in one line, where Hydra's parser would print its usage. Raises: ConfigError"""

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; --hydra-help describes all flags")

    parser, arguments = get_args_parser(), sys.argv[1:]
    parser.error = refuse  # type: ignore[method-assign]
    unknown = parser.parse_known_args(arguments)[1]
    for flag in unknown:
        if flag.startswith("-"):
            name, _, value = flag.lstrip("-").partition("=")
            following = arguments[arguments.index(flag) + 1 :][:1]
            value = value or next((after for after in following if not after.startswith("-")), "VALUE")
            raise ConfigError(f"{flag} is not a flag; settings are written without dashes: {name}={value}")
    if unknown:
        raise ConfigError(f"{' '.join(unknown)}: write all flags before the settings")


def check_setting_names(cfg: DictConfig) -> None:
    """Refuses +epoch=1, which no code reads, and eval_prompt=box, where prompt@eval_prompt=box chooses the prompt.

    Hydra refuses other unknown names itself. Inside a group, `sam_ft.cli.config.build` compares with the signature.

    Raises:
        ConfigError: naming the closest setting, or the choices of the group.
    """
    own = HydraConfig.get()
    typed = {text.partition("=")[0]: text for text in own.overrides.task}
    added = [name for name in typed if name.startswith("+")]
    if added:
        # Without those, and without any inside a group, which may need one of those.
        others = [text for name, text in typed.items() if name not in added and "." not in name]
        without = hydra.compose(own.job.config_name, [*own.overrides.hydra, *others], return_hydra_config=True)
        known = {str(name).split("@")[-1] for name in (*without, *without.hydra.runtime.choices)}
        for name in (dotted.lstrip("+").split("@")[-1].split(".")[0] for dotted in added):
            if name not in known:
                raise ConfigError(describe_unknown_setting(name, without))
    # A group has settings by name, or is null; never a bare value.
    for group in map(str, own.runtime.choices):
        folder, _, name = group.rpartition("@")
        if name in cfg and not isinstance(cfg[name], DictConfig | None):
            choices = GlobalHydra.instance().config_loader().get_group_options(folder or name)
            raise ConfigError(f"{name}={cfg[name]}: {group}=NAME chooses one of {', '.join(choices)}")


def explain_hydra_error(error: Exception) -> str:
    """One line for an error of Hydra's: the closest name where one was mistyped, else its own words."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        close = closest_name(name, error.options)
        hint = f"did you mean {close}? There" if close else "there"
        return f"{name} is not a choice of {group}; {hint} are {', '.join(error.options)}"
    # A group without a choice has no settings yet: for data.root=DIR in evaluate.py Hydra names the + to type.
    if (
        isinstance(cause, UNKNOWN)
        and isinstance(cause.parent_node, DictConfig)
        and cause.full_key not in config_groups()
    ):
        return describe_unknown_setting(str(cause.full_key), cause.parent_node)
    words = " ".join(str(error).split())
    if isinstance(error, OverrideParseException):
        typed = "" if error.override in words else f"{error.override}: "
        return f"{typed}{words}; expected NAME=VALUE, or 'NAME=\"VALUE\"' if it has special characters"
    if isinstance(cause, OmegaConfBaseException) and not isinstance(cause, UNKNOWN):
        words = f"{words}: {str(cause).splitlines()[0]}".removeprefix(": ")
    return words


def describe_unknown_setting(name: str, beside: DictConfig) -> str:
    """The message for a setting that does not exist, with the most likely correction.

    beside: the settings among which it was looked up
    """
    *above, last = name.split(".")
    settings = {str(key): value for key, value in OmegaConf.to_container(beside).items() if key != "hydra"}  # type: ignore[union-attr]
    groups, where = config_groups(), ".".join(above)
    close = closest_name(last, settings)
    inner = [] if above else [dotted for dotted in _dotted_names(settings) if dotted.endswith(f".{last}")]
    # From the surest hint to the vaguest.
    if name in INSTEAD:
        hint = INSTEAD[name]
    elif inner:
        hint = f"did you mean {' or '.join(inner[:3])}?"
    elif close:
        hint = f"did you mean {'.'.join([*above, close]) if above else groups.get(close, close)}?"
    elif above:
        hint = f"{where} has {', '.join(key for key in settings if key != '_target_')}"
        hint += f"; another choice of {groups[where]}= may have it" if where in groups else ""
    else:
        hint = "--cfg job lists all"
    return f"{name} is not a setting; {hint}"


def config_groups() -> dict[str, str]:
    """The config groups of all scripts: name of the settings -> name to type, train_prompt: prompt@train_prompt."""
    scripts: list[Any] = [OmegaConf.load(path) for path in CONF.glob("*.yaml")]
    typed = [str(key) for one in scripts for entry in one.defaults if OmegaConf.is_dict(entry) for key in entry]
    return {key.split("@")[-1]: key for key in typed if not key.startswith("override ")}


def closest_name(name: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _dotted_names(settings: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _dotted_names(value, f"{above}{key}.")
