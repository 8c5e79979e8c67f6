"""What an inspection found, for people and for programs."""

from typing import Any

import numpy as np

from sam_ft.check.inspect import Inspection
from sam_ft.check.looks import Part
from sam_ft.check.together import SMALL
from sam_ft.data.sources.issues import Group, in_groups

LEVELS = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
QUARTILES = ("smallest", "quarter", "median", "three quarters", "largest")


def as_text(found: Inspection) -> str:
    """The whole report."""
    blocks = [_columns([["", "pairs", "usable", "empty", "objects"], *_counts(found)])]
    if classes := _classes(found):
        rows = [[name, *map(str, counts.values())] for name, counts in classes.items() if any(counts.values())]
        blocks.append(_columns([["objects of class", *found.parts], *rows]))
    blocks.append(
        f"longer side of the objects' boxes, in pixels of an input of {found.input_side} "
        "(lite_medsam has 256, the others 1024)\n"
        + _columns([["", f"under {SMALL}", *QUARTILES], *(_size_row(name, p) for name, p in found.parts.items())])
    )
    for level, title in LEVELS.items():
        if groups := _groups(found, level):
            lines = [f"[{', '.join(splits)}] {_told(group)}" for group, splits in groups]
            blocks.append("\n".join([title, *("  " + line.replace("\n", "\n  ") for line in lines)]))
    blocks.append(f"{_number(found.count('error'), 'error')}, {_number(found.count('warning'), 'warning')}")
    return "\n\n".join(blocks)


def as_values(found: Inspection) -> dict[str, Any]:
    """The same in full, as JSON has it."""
    return {
        "errors": found.count("error"),
        "warnings": found.count("warning"),
        "splits": {
            name: {
                "pairs": len(part.looks),
                "usable": len(part.usable),
                "objects": len(part.sides),
                "empty": [part.split.names[i] for i in part.empty] if part.split is not None else [],
                "sizes": _sizes(part),
            }
            for name, part in found.parts.items()
        },
        "input_side": found.input_side,
        "classes": _classes(found),
        "faults": [
            {"level": f.level, "splits": splits, "inside": f.inside, "kind": f.kind, "name": f.name}
            | {"what": f.what, "advice": f.advice}
            for f, splits in found.faults.items()
        ],
    }


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _counts(found: Inspection) -> list[list[str]]:
    rows = []
    for name, part in found.parts.items():
        counts = (len(part.looks), len(part.usable), len(part.empty), len(part.sides))
        rows.append([name, *(["-"] * 4 if part.split is None else map(str, counts))])
    return rows


def _classes(found: Inspection) -> dict[str, dict[str, int]]:
    """Objects of each class in each split; none where labels are no classes."""
    splits = [part.split for part in found.parts.values() if part.split is not None]
    titles = {label: str(title) for split in splits for label, title in split.classes.items()}
    counts = {name: part.labels for name, part in found.parts.items()}
    return {title: {name: own[label] for name, own in counts.items()} for label, title in titles.items()}


def _sizes(part: Part) -> dict[str, float] | None:
    if not part.sides:
        return None
    quartiles = np.quantile(part.sides, (0, 0.25, 0.5, 0.75, 1)).round(1).tolist()
    share = float((np.array(part.sides) < SMALL).mean())
    return {f"share_under_{SMALL}": share, **dict(zip(QUARTILES, quartiles, strict=True))}


def _size_row(name: str, part: Part) -> list[str]:
    sizes = _sizes(part)
    if sizes is None:
        return [name, *["-"] * 6]
    return [name, f"{sizes[f'share_under_{SMALL}']:.1%}", *(f"{sizes[key]:.0f}" for key in QUARTILES)]


def _groups(found: Inspection, level: str) -> list[tuple[Group, list[str]]]:
    """The faults of a level in groups of the same splits."""
    by_splits: dict[tuple[str, ...], list] = {}
    for fault, splits in found.faults.items():
        if fault.level == level:
            by_splits.setdefault(tuple(splits), []).append(fault)
    return [(group, list(splits)) for splits, faults in by_splits.items() for group in in_groups(faults)]


def _told(group: Group) -> str:
    if group.kind == "data set":  # there is but one, and it has no name
        return "\n".join(f"{group.inside}: {what}; {group.advice}".removesuffix("; ") for what in group.names.values())
    return str(group)


def _columns(rows: list[list[str]]) -> str:
    """Rows of cells, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )
