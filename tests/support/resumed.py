"""Saves a state after two steps and loads it into a fresh model, as a job of two_processes.py."""

import os
from pathlib import Path

from sam_ft.prompts import Box
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.ema import Ema
from sam_ft.training.mix import Mix
from sam_ft.training.optim import adamw
from sam_ft.training.parallel import unwrap, wrap
from sam_ft.training.parameters import trained_parameters
from sam_ft.training.state import TrainState
from sam_ft.training.step import train_step
from sam_ft.utils import distributed
from sam_ft.utils.errors import CheckpointError
from tests.support.steps import batch_of, learning_task


def resumed():
    """{"whole", "halves": weights after four steps, without and with a restart; "steps"; "missing"}.

    "average", "average of halves": those of the weights · "base": before the first step
    "mixed": half of the base and half of the whole
    steps: where the restart begins · missing: exit code of a file that is not there
    Only the main rank knows the path of the file: another one that opened it would fail.
    """
    path = Path(os.environ["SAM_FT_HOME"], "last.safetensors" if distributed.is_main() else "none")
    whole, optimizer, ema = fresh()
    step(whole, optimizer, ema, range(2))
    if distributed.is_main():
        path.parent.mkdir(exist_ok=True)
        TrainState(total_steps=4, step=2).save(path, unwrap(whole).model, optimizer, ema)
    step(whole, optimizer, ema, range(2, 4))

    halves, optimizer, halves_ema = fresh()
    mix = Mix(unwrap(halves).model, [0.5])
    base = weights_of(halves)
    state = TrainState.load(path, unwrap(halves).model, optimizer, halves_ema)
    step(halves, optimizer, halves_ema, range(state.step, 4))
    mixed = {}
    best = path.with_name("best.safetensors")
    if distributed.is_main():
        save_partial_weights(unwrap(whole).model, best, best_epoch=1)
    mix.score(best, lambda _: mixed.update(weights_of(halves)))
    try:
        TrainState.load(path.with_name("missing"), unwrap(halves).model, optimizer, halves_ema)
        missing = 0
    except CheckpointError as error:
        missing = error.exit_code
    except SystemExit as stop:
        missing = -stop.code  # it prints nothing
    averages = {"average": ema.averages, "average of halves": halves_ema.averages}
    weights = {"whole": weights_of(whole), "halves": weights_of(halves), "base": base, "mixed": mixed}
    return {**weights, **averages, "steps": state.step, "missing": missing}


def weights_of(wrapped):
    return {name: p.detach().clone() for name, p in trained_parameters(unwrap(wrapped).model).items()}


def fresh():
    task = learning_task()
    return wrap(task), adamw(task.model, lr=0.01), Ema(task.model, 0.9)


def step(wrapped, optimizer, ema, numbers):
    for number in numbers:
        own = batch_of([1 + (number + distributed.rank()) % 2])
        train_step(wrapped, [own], Box(jitter=0.1), number, optimizer, 1.0)
        ema.update(number + 1)
