"""Issues of a data set, and their summary: issues with the same remedy share one paragraph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam_ft.data.sources.names import MAX_LISTED, join_names
from sam_ft.utils.errors import DataError


@dataclass(frozen=True)
class Issue:
    """One issue of a file, of a line or an annotation in it, or of a whole data set.

    location: the folder or file that contains `name` · problem: in words that follow the name · advice: what to do
    level: "error": cannot be used; "warning": look at it; "note": how it is used
    kind: of `name`: "file", "line", "annotation", "image", "class", "name", "data set"
    """

    location: str
    name: str
    problem: str
    advice: str = ""
    level: str = "error"
    kind: str = "file"


@dataclass(frozen=True)
class IssueGroup:
    """Issues of one kind in one location with the same advice.

    problem: common to all of them, or "" where problems differ · names: {name: its own problem}
    """

    level: str
    kind: str
    location: str
    problem: str
    advice: str
    names: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for a single file; else the problem, and below it the first names."""
        if self.kind == "file" and len(self.names) == 1:
            ((name, problem),) = self.names.items()
            return f"{Path(self.location, name)}: {_sentence(problem, self.advice)}"
        plural = "" if len(self.names) == 1 else "es" if self.kind.endswith("s") else "s"
        count = f"{len(self.names)} {self.kind}{plural} in {self.location}"
        if self.problem:
            return f"{_sentence(self.problem, self.advice)}\n  {count}: {join_names(list(self.names))}"
        lines = [f"    {name}: {problem}" for name, problem in list(self.names.items())[:MAX_LISTED]]
        more = [f"    ... and {len(self.names) - MAX_LISTED} more"] if len(self.names) > MAX_LISTED else []
        return "\n".join([self.advice, f"  {count}:", *lines, *more])


def issue_from(error: DataError, paths: Sequence[Path]) -> Issue:
    """The issue of one of these files; the message of `error` is "path: problem; advice"."""
    text = str(error)
    path = next((path for path in paths if text.startswith(f"{path}: ")), paths[0])
    # Pillow repeats the path, so equal problems of two files would differ
    problem, _, advice = text.removeprefix(f"{path}: ").replace(f" {str(path)!r}", "").partition("; ")
    return Issue(str(path.parent), path.name, problem, advice)


def group_issues(issues: Sequence[Issue]) -> list[IssueGroup]:
    """Groups issues with the same advice, and issues without advice by their problem."""
    alike: dict[tuple[str, ...], list[Issue]] = {}
    for issue in issues:
        # Not by problem, which may hold a number or name of its own.
        key = (issue.level, issue.kind, issue.location, issue.advice or issue.problem)
        alike.setdefault(key, []).append(issue)
    groups = []
    for members in alike.values():
        first, problems = members[0], {issue.problem for issue in members}
        problem = first.problem if len(problems) == 1 else ""
        names: dict[str, str] = {}
        for issue in members:  # one line of a table may have several issues
            names[issue.name] = f"{names[issue.name]}; {issue.problem}" if issue.name in names else issue.problem
        groups.append(IssueGroup(first.level, first.kind, first.location, problem, first.advice, names))
    return groups


def summarize(issues: Sequence[Issue]) -> str:
    """All issues as the text of an error."""
    return "\n".join(map(str, group_issues(issues)))


def _sentence(problem: str, advice: str) -> str:
    return f"{problem}; {advice}" if advice else problem
