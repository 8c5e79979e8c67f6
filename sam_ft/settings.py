"""What was typed as settings, and in plain words what is wrong with it: Hydra's own words are for programmers."""

import difflib
import re
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from sam_ft.errors import ConfigError

CONF = Path(__file__).parent.parent / "conf"


def load_choice(script: str, group: str, name: str) -> DictConfig:
    """The configuration of a script with one choice made, from inside a script that Hydra started.

    Raises:
        ConfigError: there is no such choice, naming those that there are.
    """
    try:
        return hydra.compose(script, [f"{group}={name}"])
    except CompactHydraException as error:
        raise ConfigError(in_plain_words(error)) from error


def check_names(cfg: DictConfig) -> None:
    """Refuses what nobody would ever look for: +epoch=1 on the command line, or epoch: 1 in an experiment file.

    A file may have names of its own, to be used elsewhere in it, as long as they are not close to a setting. Inside of
    the groups, `sam_ft.config.build` compares with what the classes take.

    Raises:
        ConfigError: naming the closest setting that there is.
    """
    settings = HydraConfig.get()
    folder = next(source.path for source in settings.runtime.config_sources if source.provider == "main")
    known = _settings_of(Path(folder, f"{settings.job.config_name}.yaml"))
    added = [text.lstrip("+").split("=")[0] for text in settings.overrides.task if text.startswith("+")]
    names = [name.split("@")[-1].split(".")[0] for name in added]
    if "experiment" in known:  # only then, for the demo's data bring settings of training along to any script
        names += [str(name) for name in cfg if _closest(str(name), known)]
    for name in names:
        if name not in known:
            raise ConfigError(_unknown(name, known))


def _settings_of(script: Path) -> list[str]:
    """The names that the configuration of a script has at its top: its own, and those of its groups."""
    primary: Any = OmegaConf.load(script)
    choices = [str(key) for entry in primary.pop("defaults") if OmegaConf.is_dict(entry) for key in entry]
    groups = [choice.split("@")[-1] for choice in choices if not choice.startswith("override ")]
    return [name for name in [*groups, *map(str, primary)] if name != "hydra"]


def in_plain_words(error: CompactHydraException | ValueError) -> str:
    """What Hydra did not understand, and what to type instead."""
    if isinstance(error, ValueError):
        return _no_choice(sys.argv[1:]) or str(error)
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):  # for which it offers to add it, which does nothing
        node = cause.parent_node
        return _unknown(str(cause.full_key), list(node) if isinstance(node, DictConfig) else ())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        close = _closest(name, error.options)
        hint = f"did you mean {close}? There" if close else "there"
        return f"{name} is not a choice of {group}; {hint} are {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    return "\n".join(map(str, [error, cause] if cause else [error]))


def _no_choice(arguments: Collection[str]) -> str | None:
    """What is wrong with loss=null, of which Hydra names neither the group nor its choices."""
    for argument in arguments:
        if argument.startswith("="):
            return f"{argument}: expected NAME=VALUE, such as epochs=10"
        if choices := _choices(re.split("[@=]", argument.lstrip("+~"))[0]):
            value: Any = OverridesParser.create().parse_override(argument).value()
            if not all(isinstance(one, str | list) for one in getattr(value, "list", [value])):  # those of a sweep
                return f"{argument}: expected one of {', '.join(choices)}; leave it out for the usual one"
    return None


def _choices(group: str) -> list[str]:
    """The choices that conf/ has of a group; none if it is no group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml")) if group else []


def _unreadable(error: OverrideParseException) -> str:
    name, equals, value = error.override.partition("=")
    if not equals:
        return f"{error.override}: expected NAME=VALUE, such as epochs=10"
    if value.startswith(("[", "{", '"', "'")):
        return f"{error.override} cannot be read; expected NAME=VALUE, NAME=[A,B], NAME={{A: B}} or 'NAME=\"ANY TEXT\"'"
    # within quotes Hydra takes a backslash for itself only before a quote
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    quoted = shlex.quote(f'{name}="{escaped}"')
    return (
        f"{error.override} cannot be read, for it holds characters that mean something to Hydra; put the value in "
        f"double quotes, and all of it in single ones for the shell: {quoted}"
    )


def _unknown(name: str, known: Collection[Any]) -> str:
    *above, last = name.split(".")
    close = _closest(last, [str(key) for key in known])
    there_are = f"there are {', '.join(map(str, known))}" if 0 < len(known) < 12 else "see conf/ for those there are"
    hint = f"did you mean {'.'.join([*above, close])}?" if close else there_are
    return f"{name} is not a setting; {hint}"


def _closest(name: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)
