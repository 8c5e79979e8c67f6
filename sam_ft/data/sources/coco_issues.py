"""Problems of a COCO file: collected by the readers, then an error, a warning or a list of issues."""

import logging
from collections.abc import Mapping
from pathlib import Path

from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.names import join_names

log = logging.getLogger("sam_ft")

# {("images" or "annotations", problem): which of them}; the problem follows "annotations that"
Problems = dict[tuple[str, str], list[str]]


class InvalidEntry(ValueError):
    """An image or annotation that cannot be used.

    problem: in words that follow "annotations that" · detail: of this entry alone
    """

    def __init__(self, problem: str, detail: object = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.detail = detail


class LeftOut(InvalidEntry):
    """An annotation that is no object, and is left out with a warning."""


def add_invalid(problems: Problems, kind: str, name: str, error: InvalidEntry) -> None:
    """Adds one invalid entry; kind: "images" or "annotations"."""
    problems[kind, error.problem].append(f"{name} ({error.detail})" if error.detail != "" else name)


def error_lines(file: Path, problems: Problems, totals: Mapping[str, int], on_bad: str) -> list[str]:
    """Lines of the error about all problems; none where there is no problem, or few that are skipped with a warning.

    totals: {"images": number, "annotations": number} · on_bad: "stop", or "skip" up to 1 % (or one) of either
    """
    if not problems:
        return []
    # Images and annotations are counted apart, each against its own total.
    counts = {kind: sum(len(which) for (of, _), which in problems.items() if of == kind) for kind in totals}
    found = " and ".join(f"{counts[kind]} of {totals[kind]} {kind}" for kind in totals if counts[kind])
    lines = [
        f"  {kind} that {problem}, {len(which)}: {join_names(which)}" for (kind, problem), which in problems.items()
    ]
    if on_bad == "stop":
        return [f"{file}: {found} cannot be used; correct them, or skip them with data.on_bad=skip", *lines]
    if any(counts[kind] > max(1, totals[kind] / 100) for kind in totals):
        limit = "data.on_bad=skip leaves out 1 % (or one) at most"
        return [f"{file}: {found} cannot be used, and {limit}; correct them", *lines]
    log.warning("%s", "\n".join([f"{file}: leaves out {found}", *lines]))
    return []


def warn_of(file: Path, remarks: Problems) -> None:
    """Logs a warning for each kind of odd entries that are used, or left out, as it says."""
    for (kind, remark), which in remarks.items():
        log.warning("%s: %d %s %s: %s", file, len(which), kind, remark, join_names(which))


def to_issues(file: Path, problems: Problems, remarks: Problems, stops: bool) -> list[Issue]:
    """An issue for each invalid entry, and a warning for each one that is odd.

    stops: whether the problems stop training; otherwise they are warnings
    """
    level = "error" if stops else "warning"
    advice = "correct them, or leave out up to 1 % of them (or one) with data.on_bad=skip" if stops else "left out"
    issues = [
        Issue(str(file), name, f"{kind} that {problem}; {advice}", "", level, kind.removesuffix("s"))
        for (kind, problem), which in problems.items()
        for name in which
    ]
    return issues + [
        Issue(str(file), name, f"{kind} that {remark}", "", "warning", kind.removesuffix("s"))
        for (kind, remark), which in remarks.items()
        for name in which
    ]
