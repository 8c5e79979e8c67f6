"""How far a training run has come."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models import Sam
from sam_ft.training.ema import Ema
from sam_ft.training.state_file import load_training_state, save_training_state
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils import distributed
from sam_ft.utils.errors import CheckpointError, DamagedFileError

log = logging.getLogger("sam_ft")

# Fields that the files of older versions lack.
ADDED = ("epoch_steps", "epoch_sums")
# Fields that the file of the best weights has too.
BEST = ("best_epoch", "best", "best_classes", "mix", "mix_epoch", "unmixed", "unmixed_classes")

Scores = dict[str, float]
ClassScores = dict[str, dict]


@dataclass
class TrainState:
    """Everything of a run but its weights and the optimizer state.

    total_steps: of the learning rate schedule, fixed at the first start, so more epochs later do not bend it
    epoch, step: done so far, counted from 1 · best_epoch: 0 as long as none has beaten zero-shot
    epoch_steps: done of the epoch after `epoch`, which a resumed run goes on with · epoch_sums: see `RunReport`
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
    epoch_steps: int = 0
    epoch_sums: Scores = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema) -> "TrainState":
        """Restores weights, average and optimizer from `save` on all ranks; → the state.

        If the file is damaged or missing, the one that `save` kept is read, with a warning.

        Raises:
            CheckpointError: neither can be read, or it belongs to another model.
        """
        return load_training_state(path, model, optimizer, ema, cls._parse)

    @classmethod
    def _parse(cls, found: dict) -> "TrainState":
        """Raises: CheckpointError, and DamagedFileError for values that no run has"""
        names = cls.__dataclass_fields__
        if missing := [name for name in names if name not in found and name not in ADDED]:
            raise CheckpointError(
                f"lacks {', '.join(missing)}, as of another version of sam-ft; train again under another name="
            )
        state = cls(**{name: found[name] for name in names if name in found})
        for name, default in vars(cls(total_steps=0)).items():
            value = getattr(state, name)
            is_share = name == "mix" and (value is None or (type(value) is float and 0 < value <= 1))
            if not (is_share or type(value) is type(default)) or (type(value) is int and value < 0):
                raise DamagedFileError(f"{name} is {value!r}, which no run has written")
        if state.epoch > state.step:
            raise DamagedFileError(f"epoch is {state.epoch} at step {state.step}, which no run has written")
        return state

    def save(self, path: Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema) -> None:
        save_training_state(path, model, optimizer, ema, asdict(self))

    @classmethod
    def start(cls, total_steps: int, found: Evaluation) -> "TrainState":
        """The state before the first step, with the scores of the model as it is, which training has to beat."""
        scores, classes = found.scores, found.groups["class"]
        return cls(total_steps, 0, 0, scores, classes, scores, classes)

    def count_step(self) -> None:
        self.step += 1
        self.epoch_steps += 1

    def update(self, epoch: int, found: Evaluation, monitor: str) -> bool:
        """Ends an epoch; → whether it is the best so far."""
        self.epoch, self.epoch_steps = epoch, 0
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

    def match_best(self, best_path: Path) -> None:
        """Makes the record of the best weights that of their file. All ranks call this.

        The file is older where an earlier start ended before it wrote a mix, and newer where that start ended before it
        wrote its state, or the state is the previous one. If it is missing, the last epoch is validated again; so it is
        where a start after that ended with the weights of an earlier epoch in the file.

        Raises:
            CheckpointError: the file cannot be read, or is that of another run.
        """
        exists = distributed.broadcast_from_main(best_path.exists)
        if not exists:
            log.warning("%s: no such file; the weights of the last epoch and those to come take its place", best_path)
            self._forget_best()
            return

        def read() -> dict:
            try:
                return read_tensors(best_path)[1]
            except DamagedFileError as error:
                raise CheckpointError(
                    f"{error}; delete it, and the same command goes on, and validates the last epoch again"
                ) from None

        found = distributed.broadcast_from_main(read)
        self._check_own(best_path, found)
        if found.get("best_epoch", self.best_epoch) < self.best_epoch:
            log.warning(
                "%s: holds the weights of epoch %d and not those of epoch %d; the last epoch is validated again",
                *(best_path, found["best_epoch"], self.best_epoch),
            )
            self._forget_best()
            self._adopt_best(found)
        elif self.mix is not None and found.get("mix") is None:
            if self.best_epoch:
                self.best, self.best_classes = self.unmixed, self.unmixed_classes
            else:
                self.best, self.best_classes = self.zero_shot, self.zero_shot_classes
            self._forget_mix()
        elif found.get("best_epoch", 0) > self.epoch or (self.mix is None and found.get("mix") is not None):
            self._adopt_best(found)

    def _adopt_best(self, found: dict) -> None:
        for name in BEST:
            setattr(self, name, found.get(name, getattr(self, name)))
        self._forget_head_scores()

    def _check_own(self, best_path: Path, found: dict) -> None:
        """Raises: CheckpointError on the main rank if the best weights belong to another run; the others exit."""
        same_file = (found.get("best_epoch"), found.get("mix")) == (self.best_epoch, self.mix)
        pairs = [("zero_shot", self.zero_shot), *([("best", self.best)] if same_file else [])]

        def check() -> None:
            if any(name in found and found[name] != ours for name, ours in pairs):
                raise CheckpointError(
                    f"{best_path}: its scores are not those of this run, so it comes from another one; put the file of "
                    "this run back, or delete it, and the same command validates the last epoch again"
                )

        distributed.broadcast_from_main(check)

    def _forget_best(self) -> None:
        """Goes back to where all steps of the last epoch were done and none was validated."""
        self.best, self.best_classes, self.best_epoch = self.zero_shot, self.zero_shot_classes, 0
        self._forget_mix()
        self._forget_head_scores()
        if self.epoch and not self.epoch_steps:
            self.epoch_steps, self.pruned = self.step // self.epoch, False
            self.epoch -= 1

    def _forget_mix(self) -> None:
        self.mix, self.mix_epoch, self.unmixed, self.unmixed_classes = None, 0, {}, {}

    def _forget_head_scores(self) -> None:
        """Those of other weights."""
        self.head_notes, self.head_scores, self.baseline = {}, {}, {}

    def stalled(self, patience: int | None) -> bool:
        """Whether the last `patience` epochs brought no better score; never without a patience, or within an epoch."""
        return patience is not None and not self.epoch_steps and self.epoch - self.best_epoch >= patience
