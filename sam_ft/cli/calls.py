"""train.py and evaluate.py as functions, for notebooks and scripts; they raise errors instead of ending the program."""

from collections.abc import Sequence
from importlib import import_module

from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError


def train(overrides: Sequence[str] = ()) -> float:
    """Trains one run as `train.py` does, and returns its best validation score.

    overrides: settings as on the command line, such as ["data=folder", "data.root=cells", "epochs=5"]

    Raises:
        UserError: a setting, the data or a checkpoint is wrong; the message says what to do.
    """
    return _call("train", overrides)


def evaluate(overrides: Sequence[str] = ()) -> float:
    """Evaluates as `evaluate.py` does, and returns the tuned IoU, or the zero-shot one where nothing was tuned.

    overrides: settings as on the command line, such as ["run=outputs/cells", "+data.root=other"]

    Raises:
        UserError: see `train`.
    """
    return _call("evaluate", overrides)


def _call(script: str, overrides: Sequence[str]) -> float:
    if isinstance(overrides, str):
        raise ConfigError(f"{overrides!r} was given; expected a list of settings, [{overrides!r}]")
    from sam_ft.cli.compose import compose  # here: a program that only predicts starts without Hydra

    with distributed.process_group(), compose(script, overrides) as cfg:
        return import_module(f"sam_ft.recipes.{script}").run(cfg)
