"""Messages for Hydra's errors: the setting that was mistyped, and what to type instead."""

import re
import shlex
import sys
from collections.abc import Collection
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from sam_ft.cli.hints import (
    all_config_groups,
    choices_of,
    closest_name,
    describe_mounted_group,
    describe_unknown_setting,
    list_choices,
)
from sam_ft.cli.setting_checks import plain_settings
from sam_ft.utils.errors import ConfigError

EXAMPLE = "epochs=10"  # an override to show where none was understood


def compose_choice(script: str, group: str, name: str) -> DictConfig:
    """Composes the configuration of a script with one choice of a group, while Hydra is initialized.

    Raises:
        ConfigError: there is no such choice, naming those that exist.
    """
    try:
        return hydra.compose(script, [f"{group}={name}"])
    except CompactHydraException as error:
        raise ConfigError(explain_hydra_error(error)) from error


def explain_hydra_error(error: CompactHydraException | ValueError, example: str = EXAMPLE) -> str:
    """Rewrites an error of Hydra's in terms of what was typed.

    example: an override of the script; VALUE in it is replaced by a value that was typed without a name
    """
    if isinstance(error, ValueError):
        return _explain_value_error(sys.argv[1:]) or str(error)
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):  # Hydra suggests +NAME here, which has no effect
        node, name = cause.parent_node, str(cause.full_key)
        top = isinstance(node, DictConfig) and "." not in name
        known = list(node) if isinstance(node, DictConfig) else ()
        return describe_unknown_setting(name, known, plain_settings(node) if top else {})
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        close = closest_name(name, error.options)
        hint = f"did you mean {close}? There" if close else "there"
        return f"{name} is not a choice of {group}; {hint} are {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return _explain_parse_error(error, example)
    # prompt=box, where only prompt@train_prompt and prompt@eval_prompt exist.
    if found := re.match(
        r"Could not override '(.+)'\.\nDid you mean to override (?:one of )?(.+)\?\n.*?=(.*)", str(error)
    ):
        return describe_mounted_group(found[1], found[3], found[2].split(", "))
    # epochs=1,2 without -m.
    if found := re.match("Ambiguous value for argument '(.+)'\n", str(error)):
        return _explain_commas(*found[1].partition("=")[::2])
    # A value where a group or a list is expected.
    if found := re.match("Error merging override (.+)", str(error)):
        name = found[1].split("=")[0]
        expected = "a list, [A,B]" if getattr(cause, "object_type", None) is list else "settings by name, {NAME: VALUE}"
        return list_choices(found[1], name) if name in all_config_groups() else f"{found[1]}: expected {expected}"
    return "\n".join(map(str, [error, cause] if cause else [error]))


def _explain_value_error(arguments: Collection[str]) -> str | None:
    """The message for loss=null, where Hydra names neither the group nor its choices; None if there is none such."""
    for argument in arguments:
        if argument.startswith("="):
            return f"{argument}: expected NAME=VALUE, such as {EXAMPLE}"
        if "=" not in argument:
            continue  # a flag, or ~loss
        if choices := choices_of(re.split("[@=]", argument.lstrip("+~"))[0]):
            value: Any = OverridesParser.create().parse_override(argument).value()
            if not all(isinstance(one, str | list) for one in getattr(value, "list", [value])):  # those of a sweep
                return f"{argument}: expected one of {', '.join(choices)}; leave it out for the default"
    return None


def _explain_commas(name: str, value: str) -> str:
    """The message for NAME=A,B without -m: one choice, a list, a text, or a sweep."""
    if choices_of(name.split("@")[0]):
        return f"{name}={value}: expected one choice; add -m to train with one after the other"
    as_list, text = (shlex.quote(f"{name}={wrapped}") for wrapped in (f"[{value}]", f'"{value}"'))
    return f"{name}={value}: expected {as_list} for a list, {text} for text, or -m to train with one after the other"


def _explain_parse_error(error: OverrideParseException, example: str) -> str:
    """The message for an argument that is not NAME=VALUE in Hydra's grammar."""
    name, equals, value = error.override.partition("=")
    if not equals:
        return f"{error.override}: expected NAME=VALUE, such as {example.replace('VALUE', error.override)}"
    if value.startswith(("[", "{", '"', "'")):
        return f"{error.override} cannot be read; expected NAME=VALUE, NAME=[A,B], NAME={{A: B}} or 'NAME=\"ANY TEXT\"'"
    # inside double quotes Hydra unescapes backslashes only before a quote
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    quoted = shlex.quote(f'{name}="{escaped}"')
    return (
        f"{error.override} cannot be read: it holds characters that Hydra reserves; put the value in double quotes, "
        f"and the whole argument in single quotes for the shell: {quoted}"
    )
