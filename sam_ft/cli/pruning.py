"""The median rule, which stops a job of a sweep that falls behind the others."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from omegaconf import DictConfig

from sam_ft.cli.config import is_sweep_job
from sam_ft.training.state import TrainState
from sam_ft.utils import distributed


def is_behind_sweep(cfg: DictConfig, directory: Path, state: TrainState) -> bool:
    """Whether the job is to stop after this epoch, equal on all ranks; False outside a sweep and without `prune_after`.

    directory: of the job; those of the others lie beside it
    """
    if cfg.prune_after is None or not cfg.prune_after <= state.epoch < cfg.epochs or not is_sweep_job():
        return False

    def compare() -> bool:
        paths = (path for path in directory.parent.glob("*/metrics.jsonl") if path.parent.name != directory.name)
        others = [scores_by_epoch(path, cfg.monitor)[: state.epoch] for path in paths]
        reached = [scores for scores in others if len(scores) == state.epoch]
        return below_median(state.best[cfg.monitor], reached, cfg.prune_jobs)

    # The main process alone: another job may log an epoch while the ranks read.
    return distributed.broadcast_from_main(compare)


def below_median(best: float, others: Sequence[Sequence[float]], least: int) -> bool:
    """The median stopping rule of Google Vizier (Golovin et al. 2017, section 3.2.2).

    best: the highest score of a job so far · others: the scores of each other job up to the same epoch
    least: the number of others below which no job stops
    → whether `best` is strictly below the median of the others' running averages
    """
    return len(others) >= least and best < median(sum(scores) / len(scores) for scores in others)


def scores_by_epoch(path: Path, monitor: str) -> list[float]:
    """The validation scores of the epochs in a metrics.jsonl, up to the first that is undefined or not yet written."""
    scores: dict[int, float] = {}
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # another job is writing it
            continue
        if (score := row.get(f"val/{monitor}")) is not None:
            scores[row["epoch"]] = score
    whole = next(epoch for epoch in range(1, len(scores) + 2) if epoch not in scores)
    return [scores[epoch] for epoch in range(1, whole)]
