"""When the training state is written, and from which file a run goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from sam_ft.models import Sam
from sam_ft.training.ema import Ema
from sam_ft.training.parameters import replaced, trained_parameters
from sam_ft.training.state import TrainState
from sam_ft.training.state_file import previous_state
from sam_ft.utils import distributed
from sam_ft.utils.errors import Terminated
from sam_ft.utils.preemption import SAVE, preemption


class StateSaver:
    """Writes the state before the first step, after each epoch, by the clock, and when a signal ends the run.

    A signal that comes within `epochs` waits for a moment at which the state is complete.

    path: of the file, which the main process writes
    minutes: between two states within an epoch; None for none
    """

    def __init__(
        self, path: Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema, minutes: float | None
    ) -> None:
        self._path = path
        self._model, self._optimizer, self._ema = model, optimizer, ema
        self._seconds = float("inf") if minutes is None else 60 * minutes
        self._zero_shot: dict[str, Tensor] = {}
        self._state: TrainState | None = None
        self._saved, self._saved_at = (-1, -1), 0.0  # (epoch, step), and when

    def __enter__(self) -> "StateSaver":
        preemption.forget()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and preemption.is_stopping and self._state is not None:
                self._stop(kind, self._state)
        finally:
            preemption.forget()

    def _stop(self, kind: type[BaseException], state: TrainState) -> None:
        """Saves before a signal ends the run."""
        # Raised while nothing learns, as in a validation: only steps may have been done since the last file.
        if issubclass(kind, Terminated) and (state.epoch, state.step) != self._saved:
            self.save(state)
        # The main process has stopped, and a sum with it has failed.
        if issubclass(kind, Exception) and not distributed.is_main():
            preemption.stop()

    def load(self, best_path: Path) -> TrainState | None:
        """Restores the state of an earlier start on all processes; → None if there is none.

        Call it while the model has its zero-shot weights. Raises: CheckpointError
        """
        if not distributed.broadcast_from_main(lambda: self._path.exists() or previous_state(self._path).exists()):
            return None
        if not distributed.broadcast_from_main(best_path.exists):
            self._zero_shot = {name: p.detach().clone() for name, p in trained_parameters(self._model).items()}
        state = TrainState.load(self._path, self._model, self._optimizer, self._ema)
        self._note_saved(state)
        state.match_best(best_path)
        return state

    def zero_shot_weights(self) -> AbstractContextManager:
        """Context in which the model has the weights from before `load`, if the best ones are missing."""
        return replaced(trained_parameters(self._model), self._zero_shot) if self._zero_shot else nullcontext()

    def epochs(self, state: TrainState, last: int) -> Iterator[int]:
        """The numbers of the epochs still to train. Raises: Terminated"""
        preemption.waits = True
        try:
            yield from range(state.epoch + 1, last + 1)
            preemption.stop()
        finally:
            preemption.waits = False

    def end_step(self, state: TrainState, flush: Callable[[], None]) -> None:
        """Saves where a signal or the clock says so. All processes call this after each step.

        flush: completes the numbers of the steps so far, which a resumed run does not log again

        Raises:
            Terminated: after a signal.
        """
        if distributed.is_main() and time.monotonic() - self._saved_at > self._seconds:
            preemption.note(SAVE)
        if preemption.agreed():
            flush()
            # All wait for the file: torchrun kills the others 30 s after the first that ends.
            distributed.broadcast_from_main(lambda: self.save(state))
            self._note_saved(state)
            preemption.settle()

    def save(self, state: TrainState) -> None:
        if distributed.is_main():
            state.save(self._path, self._model, self._optimizer, self._ema)
        self._note_saved(state)

    def _note_saved(self, state: TrainState) -> None:
        self._state, self._saved, self._saved_at = state, (state.epoch, state.step), time.monotonic()
