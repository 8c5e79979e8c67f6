"""The last words of a training: what came of it, and what to do if that is nothing."""

from pathlib import Path

from sam_ft.report.tables import group_table, score_table


def closing_words(progress: dict, monitor: str, weights: Path) -> str:
    """Zero-shot and the best epoch side by side, of each class too, and where the weights are.

    progress: epoch, best_epoch, and the scores zero_shot, best, zero_shot_classes and best_classes; classes are absent
        from runs that are older than their table
    weights: the partial checkpoint
    """
    tables = [score_table(progress["zero_shot"], progress["best"])]
    if progress.get("zero_shot_classes"):
        tables.append(group_table({"class": progress["zero_shot_classes"]}, {"class": progress["best_classes"]}))
    if progress["best_epoch"]:
        verdict = f"best epoch: {progress['best_epoch']} of {progress['epoch']}"
    else:
        verdict = (
            f"No epoch beat zero-shot on {monitor}: fine-tuning did not help here. The checkpoint holds the weights as "
            "they were before training. Try a lower optimizer.lr, another loss, or more images."
        )
    size = weights.stat().st_size / 1e6
    place = f"weights: {weights} ({size:.1f} MB, to go on top of the base checkpoint)"
    return "\n\n".join(["", *tables, f"{verdict}\n{place}"])
