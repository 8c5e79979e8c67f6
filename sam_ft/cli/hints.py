"""The names that conf/ has, and which of them was probably meant by one that it has not."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
SCRIPTS = {"train": "train.py", "evaluate": "evaluate.py", "export": "sam_ft.export", "check": "sam_ft.check"}


def groups_of(script: Path) -> dict[str, str]:
    """The groups of a script as they are typed, by where their settings are, as train_prompt: prompt@train_prompt."""
    entries: Any = OmegaConf.load(script).defaults
    typed = [str(key) for entry in entries if OmegaConf.is_dict(entry) for key in entry]
    return {key.split("@")[-1]: key for key in typed if not key.startswith("override ")}


def settings_of(script: Path) -> list[str]:
    """The names that the configuration of a script has at its top: those of its groups, and its own."""
    own: Any = OmegaConf.load(script)
    return [*groups_of(script), *(str(name) for name in own if name not in ("defaults", "hydra"))]


def choices_of(group: str) -> list[str]:
    """The choices of a group, typed or by where its settings are; none if it is no group."""
    folder = every_group().get(group, group).split("@")[0]
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml")) if folder else []


def every_group() -> dict[str, str]:
    """The groups of all scripts, as `groups_of` has them."""
    return {name: typed for script in SCRIPTS for name, typed in groups_of(CONF / f"{script}.yaml").items()}


def choose(typed: str, group: str) -> str:
    """How a group is chosen that something else was typed for."""
    return f"{typed}: {every_group().get(group, group)}=NAME chooses one of {', '.join(choices_of(group))}"


def unknown(name: str, known: Collection[Any], settings: Mapping[str, Any]) -> str:
    """That there is no such setting, and what there is instead.

    known: the names beside it · settings: of the whole configuration, if the name was looked for at its top
    """
    *above, last = name.split(".")
    groups = every_group()
    if name in groups and name not in known:  # nothing was chosen, so it has no settings
        return choose(name, name)
    others = [command for script, command in SCRIPTS.items() if name in settings_of(CONF / f"{script}.yaml")]
    inner = _inner_names(last, settings)
    close = closest(last, [str(key) for key in known])
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
    """The choices of the group `above`, as they are typed, that have a setting which the one that was made lacks."""
    if len(above) != 1 or above[0] not in (groups := every_group()):
        return []
    folder = CONF / groups[above[0]].split("@")[0]
    # keys, for what is to be given (???) is in none of them otherwise
    having = [name for name in choices_of(above[0]) if last in OmegaConf.load(folder / f"{name}.yaml").keys()]  # noqa: SIM118
    return [f"{groups[above[0]]}={name}" for name in having]


def closest(name: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def _inner_names(last: str, settings: Mapping[str, Any], where: str = "") -> list[str]:
    """The dotted names of settings that end with `last`, which was typed without what is before it."""
    found = []
    for key, value in settings.items():
        found += [f"{where}{key}"] if where and key == last else []
        found += _inner_names(last, value, f"{where}{key}.") if isinstance(value, dict) else []
    return found
