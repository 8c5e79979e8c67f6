"""What was typed as settings, and in plain words what is wrong with it: Hydra's own words are for programmers."""

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

from sam_ft.cli.hints import choices_of, choose, closest, every_group, groups_of, settings_of, unknown
from sam_ft.utils.errors import ConfigError

USUAL = "epochs=10"


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
    the groups, `sam_ft.cli.config.build` compares with what the classes take.

    Raises:
        ConfigError: naming the closest setting that there is.
    """
    script = _script()
    known, groups, values = settings_of(script), groups_of(script), _values(cfg)
    settings = HydraConfig.get()
    added = [text.lstrip("+").partition("=") for text in settings.overrides.task if text.startswith("+")]
    for name, _, value in added:
        mounted = [typed for typed in groups.values() if typed.startswith(f"{name}@")]
        if mounted:
            raise ConfigError(_mounted(name, value, mounted))
    names = [name.split("@")[-1].split(".")[0] for name, *_ in added]
    if "experiment" in known:  # only then, for the demo's data bring settings of training along to any script
        names += [str(name) for name in cfg if closest(str(name), known)]
    for name in names:
        if name not in known:
            raise ConfigError(unknown(name, known, values))
    for group in groups:
        if not isinstance(values.get(group, {}), dict | None):
            raise ConfigError(choose(f"{group}={values[group]}", group))


def check_switches(cfg: DictConfig) -> None:
    """Refuses overwrite=maybe, which Python would take for true, of all settings that a script has as true or false.

    Raises:
        ConfigError: naming the setting.
    """
    usual: Any = OmegaConf.to_container(OmegaConf.load(_script()), resolve=False)
    for key, value in usual.items():
        if isinstance(value, bool) and type(cfg[key]) is not bool:
            raise ConfigError(f"{key}={cfg[key]}; expected true or false")


def _script() -> Path:
    """The configuration of the script that runs, without its choices."""
    settings = HydraConfig.get()
    folder = next(source.path for source in settings.runtime.config_sources if source.provider == "main")
    return Path(folder, f"{settings.job.config_name}.yaml")


def _values(cfg: DictConfig) -> dict[str, Any]:
    """All settings as plain values, those of Hydra itself left out."""
    values: Any = OmegaConf.to_container(cfg, resolve=False)
    return {str(name): value for name, value in values.items() if name != "hydra"}


def in_plain_words(error: CompactHydraException | ValueError, usual: str = USUAL) -> str:
    """What Hydra did not understand, and what to type instead.

    usual: a setting to show; VALUE in it stands for what came without a name
    """
    if isinstance(error, ValueError):
        return _no_choice(sys.argv[1:]) or str(error)
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):  # for which it offers to add it, which does nothing
        node, name = cause.parent_node, str(cause.full_key)
        top = isinstance(node, DictConfig) and "." not in name
        return unknown(name, list(node) if isinstance(node, DictConfig) else (), _values(node) if top else {})
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        close = closest(name, error.options)
        hint = f"did you mean {close}? There" if close else "there"
        return f"{name} is not a choice of {group}; {hint} are {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return _unreadable(error, usual)
    if found := re.match(
        r"Could not override '(.+)'\.\nDid you mean to override (?:one of )?(.+)\?\n.*?=(.*)", str(error)
    ):
        return _mounted(found[1], found[3], found[2].split(", "))
    if found := re.match("Ambiguous value for argument '(.+)'\n", str(error)):
        return _several(*found[1].partition("=")[::2])
    if found := re.match("Error merging override (.+)", str(error)):
        name = found[1].split("=")[0]
        expected = "a list, [A,B]" if getattr(cause, "object_type", None) is list else "settings by name, {NAME: VALUE}"
        return choose(found[1], name) if name in every_group() else f"{found[1]}: expected {expected}"
    return "\n".join(map(str, [error, cause] if cause else [error]))


def _no_choice(arguments: Collection[str]) -> str | None:
    """What is wrong with loss=null, of which Hydra names neither the group nor its choices."""
    for argument in arguments:
        if argument.startswith("="):
            return f"{argument}: expected NAME=VALUE, such as {USUAL}"
        if "=" not in argument:
            continue  # a flag, or ~loss
        if choices := choices_of(re.split("[@=]", argument.lstrip("+~"))[0]):
            value: Any = OverridesParser.create().parse_override(argument).value()
            if not all(isinstance(one, str | list) for one in getattr(value, "list", [value])):  # those of a sweep
                return f"{argument}: expected one of {', '.join(choices)}; leave it out for the usual one"
    return None


def _mounted(group: str, value: str, typed: Collection[str]) -> str:
    """How a choice is typed whose settings stand elsewhere than under the name of its group."""
    return f"{group}={value}: expected {' or '.join(f'{one}={value}' for one in typed)}"


def _several(name: str, value: str) -> str:
    """What to type for values with commas between them."""
    if choices_of(name.split("@")[0]):
        return f"{name}={value}: expected one choice; add -m to train with one after the other"
    typed, text = (shlex.quote(f"{name}={wrapped}") for wrapped in (f"[{value}]", f'"{value}"'))
    return f"{name}={value}: expected {typed} for a list, {text} for text, or -m to train with one after the other"


def _unreadable(error: OverrideParseException, usual: str) -> str:
    name, equals, value = error.override.partition("=")
    if not equals:
        return f"{error.override}: expected NAME=VALUE, such as {usual.replace('VALUE', error.override)}"
    if value.startswith(("[", "{", '"', "'")):
        return f"{error.override} cannot be read; expected NAME=VALUE, NAME=[A,B], NAME={{A: B}} or 'NAME=\"ANY TEXT\"'"
    # within quotes Hydra takes a backslash for itself only before a quote
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    quoted = shlex.quote(f'{name}="{escaped}"')
    return (
        f"{error.override} cannot be read, for it holds characters that mean something to Hydra; put the value in "
        f"double quotes, and all of it in single ones for the shell: {quoted}"
    )
