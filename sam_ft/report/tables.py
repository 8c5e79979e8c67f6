"""Tables for the terminal and the log, as plain text."""

from collections.abc import Mapping, Sequence
from math import nan
from textwrap import fill

from torch import nn

TITLES = {
    "iou": "IoU (mean over objects)",
    "dice": "Dice (mean over objects)",
    "precision": "precision (predicted pixels that are right)",
    "recall": "recall (true pixels that are found)",
    "iou_per_image": "IoU (mean over images)",
    "dice_per_image": "Dice (mean over images)",
    "iou_per_class": "IoU (mean over classes)",
    "dice_per_class": "Dice (mean over classes)",
    "pred_iou_mae": "|guessed - true IoU| (less is better)",
    "pred_iou_spearman": "rank correlation of guessed and true IoU",
    "boundary_iou": "boundary IoU",
    "nsd": "outline within the tolerance (NSD)",
    "hd95": "outline off by, HD95 in pixels (less is better)",
    "iou_click_1": "IoU after 1 click",
    "iou_click_3": "IoU after 3 clicks",
    "iou_click_5": "IoU after 5 clicks",
    "NoC@85": "clicks to IoU 0.85 (less is better; all of them if never)",
    "NoC@90": "clicks to IoU 0.90 (less is better; all of them if never)",
    "ap50": "average precision, masks right from IoU 0.50 on",
    "ap75": "average precision, masks right from IoU 0.75 on",
    "masks_per_image": "masks found in an image",
    "highest_pred_iou": "highest guess of a mask's IoU in an image",
}
SIZE_TITLES = {"small": "small (< 32² px)", "medium": "medium (< 96² px)", "large": "large"}


def score_table(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None = None) -> str:
    """One row per metric: zero-shot | tuned | change; zero-shot alone if nothing was tuned."""
    names = [name for name in zero_shot if name not in ("objects", "images")]
    rows = [[TITLES.get(name, name), *_compared(zero_shot, tuned, name)] for name in names]
    table = plain_table(["", *_columns("", tuned)], rows)
    if "objects" not in zero_shot:
        return table
    return f"{table}\n{zero_shot['objects']:.0f} objects in {zero_shot['images']:.0f} images"


def group_table(
    zero_shot: Mapping[str, Mapping[str, Mapping]], tuned: Mapping[str, Mapping[str, Mapping]] | None = None
) -> str:
    """One row per class and per size: objects | IoU zero-shot | tuned | change; below them the classes without objects.

    zero_shot, tuned: the groups of an `Evaluation`, of the same objects
    """
    rows, absent = [], []
    for kind, groups in zero_shot.items():
        for name, group in groups.items():
            title = SIZE_TITLES[name] if kind == "size" else name
            if group["objects"]:
                after = tuned[kind][name] if tuned else None
                rows.append([title, f"{group['objects']}", *_compared(group, after, "iou")])
            else:
                absent.append(title)
    table = plain_table(["", "objects", *_columns("IoU ", tuned)], rows)
    if not absent:
        return table
    names = fill(f"absent: {', '.join(absent)}", 100, initial_indent="  ", subsequent_indent="    ")
    return f"{table}\n{names}"


def prompt_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One row per prompt: IoU, boundary IoU (Dice where it was not measured) and |guessed - true IoU|.

    results: {name of the prompt: {"zero_shot": scores, "tuned": scores}}, without "tuned" if nothing was tuned
    """
    first = next(iter(results.values()))
    tuned = first.get("tuned")
    second, title = ("boundary_iou", "boundary ") if "boundary_iou" in first["zero_shot"] else ("dice", "Dice ")
    columns = _columns("IoU ", tuned) + _columns(title, tuned)[:2] + _columns("guess error ", tuned)[:2]
    rows = []
    for prompt, scores in results.items():
        iou, other, error = (
            _compared(scores["zero_shot"], scores.get("tuned"), name) for name in ("iou", second, "pred_iou_mae")
        )
        rows.append([prompt, *iou, *other[:2], *error[:2]])
    return plain_table(["prompt", *columns], rows)


def _columns(title: str, tuned: Mapping | None) -> list[str]:
    return [f"{title}zero-shot", *([f"{title}tuned", "change"] if tuned else [])]


def _compared(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None, name: str) -> list[str]:
    """zero-shot, and where there is a tuned one that and the change; nan, or null in a file, is not defined."""
    before, after = (nan if scores is None or scores[name] is None else scores[name] for scores in (zero_shot, tuned))
    values = [f"{before:.4f}", *([f"{after:.4f}", f"{after - before:+.4f}"] if tuned else [])]
    return [value.replace("+nan", "nan") for value in values]


def parameter_table(model: nn.Module) -> str:
    """One row per part of the model: parameters trained and frozen."""
    rows = []
    total = [0, 0]
    for name, part in model.named_children():
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in part.parameters()) - trained
        total = [total[0] + trained, total[1] + frozen]
        rows.append([name, f"{trained:,}", f"{frozen:,}"])
    return plain_table(["part", "trained", "frozen"], [*rows, ["all", *(f"{count:,}" for count in total)]])


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the first one to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  " + " | ".join([first, *rest])

    rule = "  " + "-+-".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
