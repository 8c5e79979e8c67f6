"""Hints for a mistyped setting: looks up groups, choices and settings in conf/ and finds the closest name."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
SCRIPTS = {"train": "train.py", "evaluate": "evaluate.py", "export": "sam_ft.export", "check": "sam_ft.check"}


def config_groups(script: Path) -> dict[str, str]:
    """The config groups of a script: the name of its settings -> the name to type, train_prompt: prompt@train_prompt.

    script: its main YAML file
    """
    entries: Any = OmegaConf.load(script).defaults
    typed = [str(key) for entry in entries if OmegaConf.is_dict(entry) for key in entry]
    return {key.split("@")[-1]: key for key in typed if not key.startswith("override ")}


def all_config_groups() -> dict[str, str]:
    """The config groups of all scripts together."""
    return {name: typed for script in SCRIPTS for name, typed in config_groups(CONF / f"{script}.yaml").items()}


def setting_names(script: Path) -> list[str]:
    """The names at the top of a script's configuration: its groups and its own settings."""
    own: Any = OmegaConf.load(script)
    return [*config_groups(script), *(str(name) for name in own if name not in ("defaults", "hydra"))]


def choices_of(group: str) -> list[str]:
    """The choices of a group, by either of its names; empty if it is not a group."""
    folder = all_config_groups().get(group, group).split("@")[0]
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml")) if folder else []


def closest_name(name: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def list_choices(override: str, group: str) -> str:
    """The message for an override that should choose from `group` and does not."""
    return f"{override}: {all_config_groups().get(group, group)}=NAME chooses one of {', '.join(choices_of(group))}"


def describe_mounted_group(group: str, value: str, typed: Collection[str]) -> str:
    """The message for prompt=box, where only prompt@train_prompt=box and prompt@eval_prompt=box exist."""
    return f"{group}={value}: expected {' or '.join(f'{one}={value}' for one in typed)}"


def describe_unknown_setting(name: str, known: Collection[Any], settings: Mapping[str, Any]) -> str:
    """The message for a setting that does not exist, with the most likely correction.

    known: the names beside it · settings: the whole configuration, if the name was looked up at its top, else {}
    """
    *above, last = name.split(".")
    groups = all_config_groups()
    if name in groups and name not in known:  # no choice was made, so the group has no settings yet
        return list_choices(name, name)
    others = [command for script, command in SCRIPTS.items() if name in setting_names(CONF / f"{script}.yaml")]
    inner = _nested_names(last, settings)
    close = closest_name(last, [str(key) for key in known])
    # From the surest hint to the vaguest: an option of another choice, one deeper down, a close name.
    if having := _choices_with(above, last):
        hint = f"; choose {' or '.join(having)} first"
    elif inner:
        hint = f"; did you mean {' or '.join(inner[:3])}?"
    elif close:
        typed = f"{groups[close]}=..." if "@" in groups.get(close, "") and not above else close
        hint = f"; did you mean {'.'.join([*above, typed])}?"
    elif others:
        hint = ""
    else:
        few = 0 < len(known) < 12
        hint = f"; there are {', '.join(map(str, known))}" if few else "; see conf/ for those there are"
    where = f" here but one of {', '.join(others)}" if others else ""
    return f"{name} is not a setting{where}{hint}"


def _choices_with(above: list[str], last: str) -> list[str]:
    """The choices of the group `above` that have the setting `last`, as they are typed."""
    if len(above) != 1 or above[0] not in (groups := all_config_groups()):
        return []
    folder = CONF / groups[above[0]].split("@")[0]
    # by keys: `in` on the node itself is false for a mandatory value (???)
    having = [name for name in choices_of(above[0]) if last in OmegaConf.load(folder / f"{name}.yaml").keys()]  # noqa: SIM118
    return [f"{groups[above[0]]}={name}" for name in having]


def _nested_names(last: str, settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted names of nested settings that end with `last`."""
    found = []
    for key, value in settings.items():
        found += [f"{prefix}{key}"] if prefix and key == last else []
        found += _nested_names(last, value, f"{prefix}{key}.") if isinstance(value, dict) else []
    return found
