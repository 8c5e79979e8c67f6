"""One line for a mistake on the command line: the closest name to a mistyped one, or Hydra's own words."""

import difflib
import sys
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.main import get_args_parser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from sam_ft.cli.config import dotted_items
from sam_ft.utils.errors import ConfigError, UserError

_PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir())  # a wheel; a clone
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


def explain_error(error: Exception) -> str:
    """The line for a user's mistake, whether the project, Hydra or OmegaConf found it.

    The closest name where one was mistyped, else their own words.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OmegaConfBaseException):
        advice = f"; add {error.full_key}=... to the command" if isinstance(error, MissingMandatoryValue) else ""
        return str(error).split("\n")[0] + advice
    cause, words = error.__cause__, " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        close = difflib.get_close_matches(name, error.options, n=1)
        hint = f"did you mean {close[0]}? There" if close else "there"
        own = f"; for files of your own: data=folder data.root={name}" if group == "data" and not close else ""
        return f"{name} is not a choice of {group}; {hint} are {', '.join(error.options)}{own}"
    if isinstance(error, OverrideParseException):
        typed = "" if error.override in words else f"{error.override}: "
        return f"{typed}{words}; expected NAME=VALUE, or 'NAME=\"VALUE\"' if it has special characters"
    if isinstance(error, ValueError):  # Hydra does not name the group in loss=null
        nulls = {f"{group}=null" for group in config_groups().values()}
        return ": ".join([*sorted(nulls.intersection(sys.argv)), words])
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and isinstance(cause.parent_node, DictConfig):
        # A group without a choice has no settings yet: for data.root=DIR in evaluate.py Hydra names the + to type.
        known = cause.full_key in config_groups()
        return words if known else describe_unknown_setting(str(cause.full_key), cause.parent_node)
    if isinstance(cause, OmegaConfBaseException):
        return f"{words}: {str(cause).splitlines()[0]}".removeprefix(": ")
    return words


def describe_unknown_setting(name: str, beside: DictConfig) -> str:
    """The message for a setting that does not exist, with the most likely correction.

    beside: the settings among which it was looked up
    """
    *above, last = name.split(".")
    settings = {str(key): value for key, value in OmegaConf.to_container(beside).items() if key != "hydra"}  # type: ignore[union-attr]
    groups, where = config_groups(), ".".join(above)
    close = [".".join([*above, key]) for key in difflib.get_close_matches(last, settings, n=1)]
    inner = [".".join([*above, dotted]) for dotted, _ in dotted_items(settings) if dotted.endswith(f".{last}")]
    # From the surest hint to the vaguest.
    if name in INSTEAD:
        hint = INSTEAD[name]
    elif inner or close:
        hint = f"did you mean {' or '.join(groups.get(meant, meant) for meant in inner[:3] or close)}?"
    elif where in groups and (having := _choices_with(groups[where], last)):
        hint = f"choose {' or '.join(f'{groups[where]}={choice}' for choice in having)} first"
    elif above and settings:
        hint = f"{where} has {', '.join(key for key in settings if key != '_target_')}"
    else:
        hint = "--cfg job lists all"
    return f"{name} is not a setting; {hint}"


def _choices_with(group: str, option: str) -> list[str]:
    """The choices of a group, as it is typed, that have an option."""
    files = sorted((CONF / group.split("@")[0]).glob("*.yaml"))
    # by keys: `in` on the node itself is false for a mandatory value (???)
    return [path.stem for path in files if option in OmegaConf.load(path).keys()]  # noqa: SIM118


def config_groups() -> dict[str, str]:
    """The config groups of all scripts: name of the settings -> name to type, train_prompt: prompt@train_prompt."""
    scripts: list[Any] = [OmegaConf.load(path) for path in CONF.glob("*.yaml")]
    typed = [str(key) for one in scripts for entry in one.defaults if OmegaConf.is_dict(entry) for key in entry]
    return {key.split("@")[-1]: key for key in typed if not key.startswith("override ")}
