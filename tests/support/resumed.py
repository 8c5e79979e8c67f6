"""Saves a state after two steps and loads it into a fresh model, as a job of two_processes.py."""

import os
from pathlib import Path

from sam_ft.prompts import Box
from sam_ft.training.ema import Ema
from sam_ft.training.optim import adamw
from sam_ft.training.parallel import unwrap, wrap
from sam_ft.training.state import TrainState
from sam_ft.training.step import train_step
from sam_ft.utils import distributed
from sam_ft.utils.errors import CheckpointError
from tests.support.steps import batch_of, learning_task


def resumed():
    """{"whole", "halves": weights after four steps, without and with a restart; "steps"; "missing"}.

    "average", "average of halves": those of the weights
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
    state = TrainState.load(path, unwrap(halves).model, optimizer, halves_ema)
    step(halves, optimizer, halves_ema, range(state.step, 4))
    try:
        TrainState.load(path.with_name("missing"), unwrap(halves).model, optimizer, halves_ema)
        missing = 0
    except CheckpointError as error:
        missing = error.exit_code
    except SystemExit as stop:
        missing = -stop.code  # it prints nothing
    weights = [{n: p.detach().clone() for n, p in unwrap(one).model.named_parameters()} for one in (whole, halves)]
    averages = {"average": ema.averages, "average of halves": halves_ema.averages}
    return {"whole": weights[0], "halves": weights[1], **averages, "steps": state.step, "missing": missing}


def fresh():
    task = learning_task()
    return wrap(task), adamw(task.model, lr=0.01), Ema(task.model, 0.9)


def step(wrapped, optimizer, ema, numbers):
    for number in numbers:
        own = batch_of([1 + (number + distributed.rank()) % 2])
        train_step(wrapped, [own], Box(jitter=0.1), number, optimizer, 1.0)
        ema.update(number + 1)
