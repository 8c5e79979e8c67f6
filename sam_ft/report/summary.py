"""The summary of a finished training run: scores before and after, and the checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from sam_ft.report.score_rows import is_head_score
from sam_ft.report.tables import group_table, head_table, score_table

NO_HEAD = (
    "The result predicts masks from prompts, such as boxes. It finds no objects by itself; for that, train with "
    "head=instances."
)


def training_summary(progress: dict, monitor: str, checkpoint: Path, class_names: Sequence[str] = ()) -> str:
    """Compares zero-shot with the best epoch, also per class, and names the partial checkpoint.

    progress: epoch, best_epoch, and the scores zero_shot, best, zero_shot_classes and best_classes; and mix, mix_epoch,
        head_scores and baseline, see `TrainState`
    class_names: of a semantic head
    """
    own_score = next((name for name in ("msa", "miou") if name in progress["zero_shot"]), None)  # of a head
    # Those of a head with its final options have a table of their own; a head that has not learned has no score.
    before, after = (
        {name: value for name, value in progress[which].items() if not is_head_score(name)}
        for which in ("zero_shot", "best")
    )
    tables = [score_table(before, after)]
    if progress.get("head_scores"):
        tables.append(head_table(progress["baseline"], progress["head_scores"], class_names))
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
        if own_score is not None:
            outcome += f" The head has not learned either; monitor={own_score} keeps the epoch of the best head."
    size = checkpoint.stat().st_size / 1e6
    file = f"checkpoint: {checkpoint} ({size:.1f} MB, partial: loads on top of the base checkpoint)"
    closing = [NO_HEAD] if own_score is None else []
    return "\n\n".join(["", *tables, "\n".join([outcome, file, *closing])])
