"""Tables for the terminal and the log, as plain text."""

from collections.abc import Mapping, Sequence
from math import nan
from textwrap import fill
from typing import Any

from torch import nn

TITLES = {
    "iou": "IoU (mean over objects)",
    "dice": "Dice (mean over objects)",
    "precision": "precision (mean over objects)",
    "recall": "recall (mean over objects)",
    "iou_per_image": "IoU (mean over images)",
    "dice_per_image": "Dice (mean over images)",
    "iou_per_class": "IoU (mean over classes)",
    "dice_per_class": "Dice (mean over classes)",
    "pred_iou_mae": "MAE of pred_iou (lower is better)",
    "pred_iou_spearman": "Spearman correlation of pred_iou and IoU",
    "boundary_iou": "boundary IoU",
    "nsd": "NSD (outline within the tolerance)",
    "hd95": "HD95 in pixels (lower is better)",
    "iou_click_1": "IoU after 1 click",
    "iou_click_3": "IoU after 3 clicks",
    "iou_click_5": "IoU after 5 clicks",
    "NoC@85": "NoC@85 (clicks to IoU 0.85, lower is better)",
    "NoC@90": "NoC@90 (clicks to IoU 0.90, lower is better)",
    "sa50": "SA50 (segmentation accuracy at IoU 0.50)",
    "sa75": "SA75 (segmentation accuracy at IoU 0.75)",
    "msa": "mSA (segmentation accuracy, mean over IoU 0.50 to 0.95)",
    "ap": "AP (average precision, mean over IoU 0.50 to 0.95)",
    "ap50": "AP50 (average precision at IoU 0.50)",
    "ap75": "AP75 (average precision at IoU 0.75)",
    "miou": "mIoU (mean over classes)",
    "mdice": "mDice (mean over classes)",
    "masks_per_image": "predicted masks per image",
    "highest_pred_iou": "highest pred_iou (mean over images)",
}
INSTANCE_SCORES = ("sa50", "sa75", "msa", "ap", "ap50", "ap75", "masks_per_image")
CLASS_MEANS, CLASS_IOU, CLASS_DICE = ("miou", "mdice"), "class_iou/", "class_dice/"
SIZE_TITLES = {"small": "small (< 32² px)", "medium": "medium (< 96² px)", "large": "large"}


def score_table(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None = None) -> str:
    """One row per metric: zero-shot | tuned | change; zero-shot only, without a tuned model."""
    # Counts stand below the table.
    names = [name for name in zero_shot if name not in ("objects", "images")]
    rows = [[TITLES.get(name, name), *_score_cells(zero_shot, tuned, name)] for name in names]
    table = format_table(["", *_score_columns("", tuned)], rows)
    if "objects" not in zero_shot:
        return table
    return f"{table}\n{zero_shot['objects']:.0f} objects in {zero_shot['images']:.0f} images"


def group_table(
    zero_shot: Mapping[str, Mapping[str, Mapping]], tuned: Mapping[str, Mapping[str, Mapping]] | None = None
) -> str:
    """One row per class and size: objects | IoU zero-shot | tuned | change; then a list of those without objects.

    zero_shot, tuned: `Evaluation.groups` of the same objects
    """
    rows, absent = [], []
    for grouping, groups in zero_shot.items():
        for name, group in groups.items():
            title = SIZE_TITLES[name] if grouping == "size" else name
            if group["objects"]:
                after = tuned[grouping][name] if tuned else None
                rows.append([title, f"{group['objects']}", *_score_cells(group, after, "iou")])
            else:
                absent.append(title)
    table = format_table(["", "objects", *_score_columns("IoU ", tuned)], rows)
    if not absent:
        return table
    return f"{table}\n{_absent_line(absent)}"


def _absent_line(names: Sequence[str]) -> str:
    return fill(f"absent: {', '.join(names)}", 100, initial_indent="  ", subsequent_indent="    ")


def prompt_table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """One row per prompt: IoU, boundary IoU (Dice if it was not computed) and the MAE of pred_iou.

    results: {prompt: {"zero_shot": scores, "tuned": scores}}, "tuned" only with a tuned model
    """
    first = next(iter(results.values()))
    tuned = first.get("tuned")
    second, title = ("boundary_iou", "boundary ") if "boundary_iou" in first["zero_shot"] else ("dice", "Dice ")
    columns = (
        _score_columns("IoU ", tuned) + _score_columns(title, tuned)[:2] + _score_columns("pred_iou MAE ", tuned)[:2]
    )
    rows = []
    for prompt, scores in results.items():
        iou, other, error = (
            _score_cells(scores["zero_shot"], scores.get("tuned"), name) for name in ("iou", second, "pred_iou_mae")
        )
        rows.append([prompt, *iou, *other[:2], *error[:2]])
    return format_table(["prompt", *columns], rows)


def mix_table(scores: Mapping[float, Mapping[str, float]], monitor: str, chosen: float) -> str:
    """One row per mix: the share of the epoch | the monitored score, with a mark at the chosen one.

    scores: by the share, from 0 for zero-shot to 1 for the best epoch, which is absent if no epoch beat zero-shot
    """
    names = {0.0: "0 (zero-shot)", 1.0: "1 (best epoch)"}
    rows = [
        [names.get(share, f"{share:g}"), f"{found[monitor]:.4f}", "* kept" if share == chosen else ""]
        for share, found in sorted(scores.items())
    ]
    return format_table(["mix", TITLES.get(monitor, monitor), ""], rows)


def is_head_score(name: str) -> bool:
    """Whether a score is of what a head finds without prompts."""
    return name in (*INSTANCE_SCORES, *CLASS_MEANS) or name.startswith((CLASS_IOU, CLASS_DICE))


def head_table(baseline: Mapping[str, float], head: Mapping[str, float], names: Sequence[str]) -> str:
    """The scores of what a head finds beside those of its baseline. names: of the classes of a semantic head"""
    return class_map_table(baseline, head, names) if "miou" in head else instance_table(baseline, head)


def class_map_table(baseline: Mapping[str, float], head: Mapping[str, float], names: Sequence[str]) -> str:
    """Rows for the means and the IoU of each class: majority class | head | change; a line below if no better.

    names: of the classes, background first; those without a score are listed as absent
    """
    present = [name for name in names if f"{CLASS_IOU}{name}" in head]
    rows = [[TITLES[name], *_score_cells(baseline, head, name)] for name in CLASS_MEANS]
    rows += [[f"IoU {name}", *_score_cells(baseline, head, f"{CLASS_IOU}{name}")] for name in present]
    table = format_table(["classes of pixels", "majority class", "head", "change"], rows)
    if absent := [name for name in names if name not in present]:
        table = f"{table}\n{_absent_line(absent)}"
    if head["miou"] > baseline["miou"]:
        return table
    return (
        f"{table}\nThe head finds classes no better than the majority class of the training pixels at every pixel; "
        "train it longer, or on more images."
    )


def instance_table(baseline: Mapping[str, float], head: Mapping[str, float]) -> str:
    """One row per metric of masks without prompts: Otsu + watershed | head | change; a line below if no better."""
    rows = [[TITLES.get(name, name), *_score_cells(baseline, head, name)] for name in INSTANCE_SCORES]
    table = format_table(["without prompts", "Otsu + watershed", "head", "change"], rows)
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

    results: by prompt, then "zero_shot" and "tuned", each with `scores` and `groups`
    amg: scores of automatic masks, likewise · auto, class_names: "baseline" and "head", see `head_table`
    """
    tables = []
    for name, result in results.items():
        before, after = result["zero_shot"], result.get("tuned")
        tables.append(f"{name}\n{score_table(before.scores, after and after.scores)}")
        tables.append(group_table(before.groups, after and after.groups))
    if len(results) > 1:
        tables.append(prompt_table({n: {w: e.scores for w, e in result.items()} for n, result in results.items()}))
    if amg:
        tables.append(f"automatic masks\n{score_table(amg['zero_shot'], amg.get('tuned'))}")
    if auto:
        tables.append(head_table(auto["baseline"], auto["head"], class_names))
    return "\n" + "\n\n".join(tables)


def _score_columns(title: str, tuned: Mapping | None) -> list[str]:
    return [f"{title}zero-shot", *([f"{title}tuned", "change"] if tuned else [])]


def _score_cells(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None, name: str) -> list[str]:
    """zero-shot, and with a tuned model its score and the change; nan (null in JSON) is undefined."""
    # None: a class without objects.
    before, after = (nan if scores is None or scores[name] is None else scores[name] for scores in (zero_shot, tuned))
    values = [f"{before:.4f}", *([f"{after:.4f}", f"{after - before:+.4f}"] if tuned else [])]
    # Python writes a sign before nan too.
    return [value.replace("+nan", "nan") for value in values]


def parameter_table(model: nn.Module) -> str:
    """One row per submodule of the model: trained and frozen parameters."""
    rows = []
    total = [0, 0]
    for name, module in model.named_children():
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in module.parameters()) - trained
        total = [total[0] + trained, total[1] + frozen]
        rows.append([name, f"{trained:,}", f"{frozen:,}"])
    return format_table(["module", "trained", "frozen"], [*rows, ["all", *(f"{count:,}" for count in total)]])


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Pads columns to the width of their content; the first is left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  " + " | ".join([first, *rest])

    rule = "  " + "-+-".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
