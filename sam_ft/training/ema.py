"""The exponential moving average of the weights, which is validated and kept in place of the last step's weights."""

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sam_ft.training.parameters import replaced, trained_parameters


class Ema:
    """Averages the trained parameters of a model over the optimizer steps (Polyak and Juditsky 1992).

    Each process averages its own weights, which are the same on all of them. torch's `AveragedModel` holds a copy of
    the whole model and runs it; here only the trained parameters have a copy, and the model itself runs with them.

    decay: of the average in a step, None for no average
    averages: by the parameter's name, on its device; empty without a decay
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self.decay = decay
        self._parameters = {} if decay is None else trained_parameters(model)
        self.averages: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._parameters.items()}

    def update(self, step: int) -> None:
        """Averages in the weights after a step, counted from 1."""
        if self.decay is not None:
            # Warm-up as in TensorFlow's ExponentialMovingAverage: a constant decay would hold the start for
            # 1 / (1 - decay) steps. The average begins over a few steps and has its full length from about step
            # 9 / (1 - decay) on.
            average = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
            average([*self.averages.values()], [*self._parameters.values()], step)

    def applied(self) -> AbstractContextManager:
        """Context in which the model has the averaged weights."""
        return nullcontext() if self.decay is None else replaced(self._parameters, self.averages)
