"""The result of a check as text and as JSON."""

from typing import Any

import numpy as np

from sam_ft.check.across_images import SMALL_SIDE
from sam_ft.check.dataset import CheckResult
from sam_ft.check.per_image import SplitContents
from sam_ft.data.sources.issues import Issue, IssueGroup, group_issues

LEVELS = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
QUARTILES = ("smallest", "quarter", "median", "three quarters", "largest")


def as_text(result: CheckResult) -> str:
    """The report: counts, classes, sizes of objects, then issues by level."""
    blocks = [_align([["", "pairs", "usable", "empty", "objects"], *_count_rows(result)])]
    if classes := _class_counts(result):
        # Classes without objects are listed among the issues.
        rows = [[name, *map(str, counts.values())] for name, counts in classes.items() if any(counts.values())]
        blocks.append(_align([["objects of class", *result.splits], *rows]))
    sizes = [_size_row(name, contents) for name, contents in result.splits.items()]
    blocks.append(
        f"longer side of the objects' boxes, in pixels of an input of {result.input_side} "
        "(lite_medsam has 256, the others 1024)\n" + _align([["", f"under {SMALL_SIDE}", *QUARTILES], *sizes])
    )
    for level, title in LEVELS.items():
        if groups := _groups_of_level(result, level):
            lines = [f"[{', '.join(splits)}] {_group_text(group)}" for group, splits in groups]
            blocks.append("\n".join([title, *("  " + line.replace("\n", "\n  ") for line in lines)]))
    blocks.append(f"{_plural(result.count('error'), 'error')}, {_plural(result.count('warning'), 'warning')}")
    return "\n\n".join(blocks)


def as_values(result: CheckResult) -> dict[str, Any]:
    """The full report as JSON values; no list is shortened."""
    return {
        "errors": result.count("error"),
        "warnings": result.count("warning"),
        "splits": {
            name: {
                "pairs": len(contents.samples),
                "usable": len(contents.usable),
                "objects": len(contents.box_sides),
                "empty": [contents.split.names[i] for i in contents.empty] if contents.split is not None else [],
                "sizes": _size_quartiles(contents),
            }
            for name, contents in result.splits.items()
        },
        "input_side": result.input_side,
        "classes": _class_counts(result),
        "issues": [
            {"level": one.level, "splits": splits, "location": one.location, "kind": one.kind, "name": one.name}
            | {"problem": one.problem, "advice": one.advice}
            for one, splits in result.issues.items()
        ],
    }


def _plural(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _count_rows(result: CheckResult) -> list[list[str]]:
    rows = []
    for name, contents in result.splits.items():
        counts = (len(contents.samples), len(contents.usable), len(contents.empty), len(contents.box_sides))
        rows.append([name, *(["-"] * 4 if contents.split is None else map(str, counts))])
    return rows


def _class_counts(result: CheckResult) -> dict[str, dict[str, int]]:
    """{class: {split: number of objects}}; empty where labels are no classes."""
    splits = [contents.split for contents in result.splits.values() if contents.split is not None]
    classes = {label: str(name) for split in splits for label, name in split.classes.items()}
    counts = {split: contents.labels for split, contents in result.splits.items()}
    return {name: {split: own[label] for split, own in counts.items()} for label, name in classes.items()}


def _size_quartiles(contents: SplitContents) -> dict[str, float] | None:
    if not contents.box_sides:
        return None
    quartiles = np.quantile(contents.box_sides, (0, 0.25, 0.5, 0.75, 1)).round(1).tolist()
    share = float((np.array(contents.box_sides) < SMALL_SIDE).mean())
    return {f"share_under_{SMALL_SIDE}": share, **dict(zip(QUARTILES, quartiles, strict=True))}


def _size_row(name: str, contents: SplitContents) -> list[str]:
    sizes = _size_quartiles(contents)
    if sizes is None:
        return [name, *["-"] * 6]
    return [name, f"{sizes[f'share_under_{SMALL_SIDE}']:.1%}", *(f"{sizes[key]:.0f}" for key in QUARTILES)]


def _groups_of_level(result: CheckResult, level: str) -> list[tuple[IssueGroup, list[str]]]:
    """The issues of a level, grouped by their splits and then by their advice."""
    by_splits: dict[tuple[str, ...], list[Issue]] = {}
    for issue, splits in result.issues.items():
        if issue.level == level:
            by_splits.setdefault(tuple(splits), []).append(issue)
    return [(group, list(splits)) for splits, issues in by_splits.items() for group in group_issues(issues)]


def _group_text(group: IssueGroup) -> str:
    if group.kind == "data set":  # the group has one issue without a name
        return "\n".join(
            f"{group.location}: {problem}; {group.advice}".removesuffix("; ") for problem in group.names.values()
        )
    return str(group)


def _align(rows: list[list[str]]) -> str:
    """Aligns cells in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )
