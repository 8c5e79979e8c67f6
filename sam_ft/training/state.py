"""How far a training run has come."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models import Sam
from sam_ft.training.checkpoint import load_training_state, save_training_state
from sam_ft.training.ema import Ema
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils import distributed

Scores = dict[str, float]
ClassScores = dict[str, dict]


@dataclass
class TrainState:
    """Everything of a run but its weights and the optimizer state.

    total_steps: of the learning rate schedule, fixed at the first start, so more epochs later do not bend it
    epoch, step: done so far, counted from 1 · best_epoch: 0 as long as none has beaten zero-shot
    zero_shot, best: scores of the validation split, with those of each class beside them
    pruned: stopped by `sam_ft.cli.pruning`, behind the other jobs of its sweep
    mix: share of `mix_epoch` in the weights of `best`, the rest being zero-shot; None: they are no mix
    mix_epoch: the best epoch, or the last one if none has beaten zero-shot, once it was mixed, better or not
    unmixed: scores of the best epoch, once it was mixed, and those of its classes
    head_notes, head_scores, baseline: of a head with the best weights, found at the end, see `HeadScores`; empty before
    """

    total_steps: int
    epoch: int = 0
    step: int = 0
    zero_shot: Scores = field(default_factory=dict)
    zero_shot_classes: ClassScores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)
    best_classes: ClassScores = field(default_factory=dict)
    best_epoch: int = 0
    pruned: bool = False
    mix: float | None = None
    mix_epoch: int = 0
    unmixed: Scores = field(default_factory=dict)
    unmixed_classes: ClassScores = field(default_factory=dict)
    head_notes: dict[str, Any] = field(default_factory=dict)
    head_scores: Scores = field(default_factory=dict)
    baseline: Scores = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema) -> "TrainState":
        """Restores weights, average and optimizer from `save` on all ranks; → the state. Raises: CheckpointError"""
        fields = cls.__dataclass_fields__
        found = load_training_state(path, model, optimizer, ema, fields)
        return cls(**{name: found[name] for name in fields})

    def save(self, path: Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema) -> None:
        save_training_state(path, model, optimizer, ema, asdict(self))

    @classmethod
    def start(cls, total_steps: int, found: Evaluation) -> "TrainState":
        """The state before the first step, with the scores of the model as it is, which training has to beat."""
        scores, classes = found.scores, found.groups["class"]
        return cls(total_steps, 0, 0, scores, classes, scores, classes)

    def update(self, epoch: int, found: Evaluation, monitor: str) -> bool:
        """Ends an epoch; → whether it is the best so far."""
        self.epoch = epoch
        # A tie is no improvement: the earlier weights stay. nan never improves.
        improved = found.scores[monitor] > self.best[monitor]
        if improved:
            self.best, self.best_classes, self.best_epoch = found.scores, found.groups["class"], epoch
            self._forget_mix()
            self._forget_head_scores()
        return improved

    @property
    def mixable(self) -> bool:
        """Whether the best epoch, or the last one if none has beaten zero-shot, was not mixed yet."""
        return self.mix is None and self.mix_epoch != self.epoch

    def choose_mix(self, scored: Mapping[float, Evaluation], monitor: str) -> float | None:
        """Takes the share with the best score.

        scored: of `Mix.score`
        → the share: 1 if none beats the best epoch; None if no epoch has beaten zero-shot, and no mix does
        """
        self.mix_epoch = self.best_epoch or self.epoch
        if self.best_epoch:
            self.unmixed, self.unmixed_classes, self.mix = self.best, self.best_classes, 1.0
        for share, found in scored.items():
            if found.scores[monitor] > self.best[monitor]:
                self.best, self.best_classes, self.mix = found.scores, found.groups["class"], share
                self._forget_head_scores()
        return self.mix

    def check_mix(self, best_path: Path) -> None:
        """Takes back a mix whose weights are not in the file. All ranks call this.

        An earlier start ended before it wrote them, or after a later epoch replaced them.

        best_path: the file of the weights, whose metadata says whether they are a mix

        Raises:
            CheckpointError: the file cannot be read.
        """
        if (
            self.mix is None
            or distributed.broadcast_from_main(lambda: read_tensors(best_path)[1].get("mix")) is not None
        ):
            return
        if self.best_epoch:
            self.best, self.best_classes = self.unmixed, self.unmixed_classes
        else:
            self.best, self.best_classes = self.zero_shot, self.zero_shot_classes
        self._forget_mix()

    def _forget_mix(self) -> None:
        self.mix, self.mix_epoch, self.unmixed, self.unmixed_classes = None, 0, {}, {}

    def _forget_head_scores(self) -> None:
        """Those of other weights."""
        self.head_notes, self.head_scores, self.baseline = {}, {}, {}

    def stalled(self, patience: int | None) -> bool:
        """Whether the last `patience` epochs brought no better score; never without a patience."""
        return patience is not None and self.epoch - self.best_epoch >= patience
