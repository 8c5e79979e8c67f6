"""What is wrong with files, one fault each, and many of them said in a few sentences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam_ft.utils.errors import DataError

SHOWN = 10  # names that an error lists of each kind


@dataclass(frozen=True)
class Fault:
    """One thing about one file, or about a line or an annotation in it.

    inside: the folder or file that `name` is in · what: was found · advice: what to do
    level: "error": cannot be used; "warning": look at it; "note": how it is used
    kind: what `name` is: "file", "line", "annotation" ...
    """

    inside: str
    name: str
    what: str
    advice: str = ""
    level: str = "error"
    kind: str = "file"


@dataclass(frozen=True)
class Group:
    """Faults of one kind in one place, for which the same is to be done.

    what: of all of them, "" where it differs, and stands with each name · names: and what each of them has
    """

    level: str
    kind: str
    inside: str
    what: str
    advice: str
    names: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for a single file; else what is wrong, and the first few names under it."""
        if self.kind == "file" and len(self.names) == 1:
            ((name, what),) = self.names.items()
            return f"{Path(self.inside, name)}: {_sentence(what, self.advice)}"
        plural = "" if len(self.names) == 1 else "es" if self.kind.endswith("s") else "s"
        count = f"{len(self.names)} {self.kind}{plural} in {self.inside}"
        if self.what:
            return f"{_sentence(self.what, self.advice)}\n  {count}: {listed(list(self.names))}"
        lines = [f"    {name}: {what}" for name, what in list(self.names.items())[:SHOWN]]
        more = [f"    ... and {len(self.names) - SHOWN} more"] if len(self.names) > SHOWN else []
        return "\n".join([self.advice, f"  {count}:", *lines, *more])


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def fault_of(error: DataError, paths: Sequence[Path]) -> Fault:
    """What an error says about one of these files, whose message is "path: what; what to do"."""
    text = str(error)
    path = next((path for path in paths if text.startswith(f"{path}: ")), paths[0])
    # Pillow repeats the path, which would make each message another one
    what, _, advice = text.removeprefix(f"{path}: ").replace(f" {str(path)!r}", "").partition("; ")
    return Fault(str(path.parent), path.name, what, advice)


def in_groups(faults: Sequence[Fault]) -> list[Group]:
    """Together what calls for the same act: with the same advice, or without any but with the same words."""
    together: dict[tuple[str, ...], list[Fault]] = {}
    for fault in faults:
        key = (fault.level, fault.kind, fault.inside, fault.advice or fault.what)
        together.setdefault(key, []).append(fault)
    groups = []
    for alike in together.values():
        first, whats = alike[0], {fault.what for fault in alike}
        what = first.what if len(whats) == 1 else ""
        names: dict[str, str] = {}
        for fault in alike:  # a line may have several
            names[fault.name] = f"{names[fault.name]}; {fault.what}" if fault.name in names else fault.what
        groups.append(Group(first.level, first.kind, first.inside, what, first.advice, names))
    return groups


def said(faults: Sequence[Fault]) -> str:
    """All of them, for an error."""
    return "\n".join(map(str, in_groups(faults)))


def _sentence(what: str, advice: str) -> str:
    return f"{what}; {advice}" if advice else what
