"""The rows of the tables of scores: the first is the header, all cells are text. For the terminal and report.html."""

from collections.abc import Mapping
from math import nan
from typing import Any

Rows = list[list[str]]

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


def score_rows(
    zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None = None, only: str = "zero-shot"
) -> Rows:
    """One row per metric: zero-shot | tuned | change; without a tuned model one column, of the title `only`."""
    # Counts are no scores.
    names = [name for name in zero_shot if name not in ("objects", "images", "groups")]
    rows = [[TITLES.get(name, name), *_score_cells(zero_shot, tuned, name)] for name in names]
    return [["", *_score_columns("", tuned, only)], *rows]


def group_rows(
    zero_shot: Mapping[str, Mapping[str, Mapping]],
    tuned: Mapping[str, Mapping[str, Mapping]] | None = None,
    only: str = "zero-shot",
) -> tuple[Rows, list[str]]:
    """One row per class and size: objects | IoU zero-shot | tuned | change; and the titles of those without objects.

    zero_shot, tuned: `Evaluation.groups` of the same objects · only: as in `score_rows`
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
    return [["", "objects", *_score_columns("IoU ", tuned, only)], *rows], absent


def prompt_rows(results: Mapping[str, Mapping[str, Mapping[str, float]]], only: str = "zero-shot") -> Rows:
    """One row per prompt: IoU, boundary IoU (Dice if it was not computed) and the MAE of pred_iou.

    results: {prompt: {"zero_shot": scores, "tuned": scores}} or one of the two · only: as in `score_rows`
    """
    before, tuned = before_and_after(next(iter(results.values())))
    second, title = ("boundary_iou", "boundary ") if "boundary_iou" in before else ("dice", "Dice ")
    columns = [
        *_score_columns("IoU ", tuned, only),
        *_score_columns(title, tuned, only)[:2],
        *_score_columns("pred_iou MAE ", tuned, only)[:2],
    ]
    rows = []
    for prompt, scores in results.items():
        iou, other, error = (_score_cells(*before_and_after(scores), name) for name in ("iou", second, "pred_iou_mae"))
        rows.append([prompt, *iou, *other[:2], *error[:2]])
    return [["prompt", *columns], *rows]


def mix_rows(scores: Mapping[float, Mapping[str, float]], monitor: str, chosen: float) -> Rows:
    """One row per mix: the share of the epoch | the monitored score, with a mark at the chosen one.

    scores: by the share, from 0 for zero-shot to 1 for the best epoch, which is absent if no epoch beat zero-shot
    """
    names = {0.0: "0 (zero-shot)", 1.0: "1 (best epoch)"}
    rows = [
        [names.get(share, f"{share:g}"), f"{found[monitor]:.4f}", "* kept" if share == chosen else ""]
        for share, found in sorted(scores.items())
    ]
    return [["mix", TITLES.get(monitor, monitor), ""], *rows]


def is_head_score(name: str) -> bool:
    """Whether a score is of what a head finds without prompts."""
    return name in (*INSTANCE_SCORES, *CLASS_MEANS) or name.startswith((CLASS_IOU, CLASS_DICE))


def class_map_rows(baseline: Mapping[str, float], head: Mapping[str, float]) -> Rows:
    """Rows for the means and the IoU of each class with a score: majority class | head | change."""
    present = [name.removeprefix(CLASS_IOU) for name in head if name.startswith(CLASS_IOU)]
    rows = [[TITLES[name], *_score_cells(baseline, head, name)] for name in CLASS_MEANS]
    rows += [[f"IoU {name}", *_score_cells(baseline, head, f"{CLASS_IOU}{name}")] for name in present]
    return [["classes of pixels", "majority class", "head", "change"], *rows]


def instance_rows(baseline: Mapping[str, float], head: Mapping[str, float]) -> Rows:
    """One row per metric of masks without prompts: Otsu + watershed | head | change."""
    rows = [[TITLES.get(name, name), *_score_cells(baseline, head, name)] for name in INSTANCE_SCORES]
    return [["without prompts", "Otsu + watershed", "head", "change"], *rows]


def before_and_after(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """Of zero-shot and tuned in this order; None for the second where there is one of them."""
    first, *others = result.values()
    return first, *(others or [None])


def only_title(result: Mapping[str, Any]) -> str:
    """The title of the column where there is one of zero-shot and tuned."""
    return next(iter(result)).replace("_", "-")


def _score_columns(title: str, tuned: Mapping | None, only: str = "zero-shot") -> list[str]:
    return [f"{title}zero-shot", f"{title}tuned", "change"] if tuned else [f"{title}{only}"]


def _score_cells(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None, name: str) -> list[str]:
    """zero-shot, and with a tuned model its score and the change; nan (null in JSON) is undefined."""
    # None: a class without objects.
    before, after = (nan if scores is None or scores[name] is None else scores[name] for scores in (zero_shot, tuned))
    values = [f"{before:.4f}", *([f"{after:.4f}", f"{after - before:+.4f}"] if tuned else [])]
    # Python writes a sign before nan too.
    return [value.replace("+nan", "nan") for value in values]
