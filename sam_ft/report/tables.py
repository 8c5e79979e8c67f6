"""Tables for the terminal and the log, as plain text."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from torch import nn

from sam_ft.report.score_rows import (
    CLASS_IOU,
    before_and_after,
    class_map_rows,
    group_rows,
    instance_rows,
    mix_rows,
    only_title,
    prompt_rows,
    score_rows,
)


def score_table(
    zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None = None, only: str = "zero-shot"
) -> str:
    """See `score_rows`; below it the number of objects and images, where it is known."""
    table = format_table(score_rows(zero_shot, tuned, only))
    if "objects" not in zero_shot:
        return table
    return f"{table}\n{zero_shot['objects']:.0f} objects in {zero_shot['images']:.0f} images"


def group_table(
    zero_shot: Mapping[str, Mapping[str, Mapping]],
    tuned: Mapping[str, Mapping[str, Mapping]] | None = None,
    only: str = "zero-shot",
) -> str:
    """See `group_rows`; below it a list of the groups without objects."""
    rows, absent = group_rows(zero_shot, tuned, only)
    table = format_table(rows)
    if not absent:
        return table
    return f"{table}\n{_absent_line(absent)}"


def _absent_line(names: Sequence[str]) -> str:
    return fill(f"absent: {', '.join(names)}", 100, initial_indent="  ", subsequent_indent="    ")


def prompt_table(results: Mapping[str, Mapping[str, Mapping[str, float]]], only: str = "zero-shot") -> str:
    """See `prompt_rows`."""
    return format_table(prompt_rows(results, only))


def mix_table(scores: Mapping[float, Mapping[str, float]], monitor: str, chosen: float) -> str:
    """See `mix_rows`."""
    return format_table(mix_rows(scores, monitor, chosen))


def head_table(baseline: Mapping[str, float], head: Mapping[str, float], names: Sequence[str]) -> str:
    """The scores of what a head finds beside those of its baseline. names: of the classes of a semantic head"""
    return class_map_table(baseline, head, names) if "miou" in head else instance_table(baseline, head)


def class_map_table(baseline: Mapping[str, float], head: Mapping[str, float], names: Sequence[str]) -> str:
    """See `class_map_rows`; a line below if the head is no better.

    names: of the classes, background first; those without a score are listed as absent
    """
    table = format_table(class_map_rows(baseline, head))
    if absent := [name for name in names if f"{CLASS_IOU}{name}" not in head]:
        table = f"{table}\n{_absent_line(absent)}"
    if head["miou"] > baseline["miou"]:
        return table
    return (
        f"{table}\nThe head finds classes no better than the majority class of the training pixels at every pixel; "
        "train it longer, or on more images."
    )


def instance_table(baseline: Mapping[str, float], head: Mapping[str, float]) -> str:
    """See `instance_rows`; a line below if the head is no better."""
    table = format_table(instance_rows(baseline, head))
    if head["msa"] > baseline["msa"]:
        return table
    return (
        f"{table}\nThe head finds objects no better than Otsu's threshold and a watershed, which learn nothing; "
        "train it longer, or on more images."
    )


def evaluation_tables(
    results: Mapping[str, Mapping[str, Any]],
    amg: Mapping[str, Mapping[str, float]],
    auto: Mapping[str, Mapping[str, float]] = {},
    class_names: Sequence[str] = (),
) -> str:
    """All tables of an evaluation.

    results: by prompt, then "zero_shot" and "tuned" or one of them, each with `scores` and `groups`
    amg: scores of automatic masks, likewise · auto, class_names: "baseline" and "head", see `head_table`
    """
    tables = []
    only = only_title(next(iter(results.values())))
    for name, result in results.items():
        before, after = before_and_after(result)
        tables.append(f"{name}\n{score_table(before.scores, after and after.scores, only)}")
        tables.append(group_table(before.groups, after and after.groups, only))
    if len(results) > 1:
        scores = {name: {which: found.scores for which, found in result.items()} for name, result in results.items()}
        tables.append(prompt_table(scores, only))
    if amg:
        tables.append(f"automatic masks\n{score_table(*before_and_after(amg), only)}")
    if auto:
        tables.append(head_table(auto["baseline"], auto["head"], class_names))
    return "\n" + "\n\n".join(tables)


def parameter_table(model: nn.Module) -> str:
    """One row per submodule of the model: trained and frozen parameters."""
    rows = []
    total = [0, 0]
    for name, module in model.named_children():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in module.parameters()) - trained
        total = [total[0] + trained, total[1] + frozen]
        rows.append([name, f"{trained:,}", f"{frozen:,}"])
    return format_table([["module", "trained", "frozen"], *rows, ["all", *(f"{count:,}" for count in total)]])


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Pads columns to the width of their content; the first is left-aligned, the others right-aligned.

    rows: the header first
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  " + " | ".join([first, *rest])

    rule = "  " + "-+-".join("-" * width for width in widths)
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])
