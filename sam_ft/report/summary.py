"""The summary of a finished training run: scores before and after, and the checkpoint."""

from pathlib import Path

from sam_ft.report.tables import group_table, score_table


def training_summary(progress: dict, monitor: str, checkpoint: Path) -> str:
    """Compares zero-shot with the best epoch, also per class, and names the partial checkpoint.

    progress: epoch, best_epoch, and the scores zero_shot, best, zero_shot_classes and best_classes; and mix and
        mix_epoch, see `TrainState`
    """
    tables = [score_table(progress["zero_shot"], progress["best"])]
    if progress.get("zero_shot_classes"):
        tables.append(group_table({"class": progress["zero_shot_classes"]}, {"class": progress["best_classes"]}))
    mix = progress.get("mix")
    if progress["best_epoch"]:
        outcome = f"best epoch: {progress['best_epoch']} of {progress['epoch']}"
        if mix is not None:
            outcome += f", mixed with zero-shot: mix={mix:g}" if mix < 1 else ", better than each mix with zero-shot"
    elif mix is not None:
        outcome = (
            f"No epoch improved {monitor} over zero-shot, but a mix with zero-shot did: "
            f"mix={mix:g} of epoch {progress['mix_epoch']} of {progress['epoch']}. Try a lower optimizer.lr, too."
        )
    else:
        outcome = (
            f"No epoch improved {monitor} over zero-shot: the checkpoint holds the weights from before training. "
            "Try a lower optimizer.lr, another loss, or more images."
        )
    size = checkpoint.stat().st_size / 1e6
    file = f"checkpoint: {checkpoint} ({size:.1f} MB, partial: loads on top of the base checkpoint)"
    return "\n\n".join(["", *tables, f"{outcome}\n{file}"])
