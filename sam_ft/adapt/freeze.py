"""Train some parameters as they are and freeze the others."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from sam_ft.utils.errors import ConfigError


class Freeze:
    """Trains the parameters whose names match a pattern of `train` and none of `freeze`; the rest is frozen.

    Patterns are shell-style ("mask_decoder.*") on the names of the official checkpoints.

    Raises:
        ValueError: no lists of patterns, or none to train.
    """

    def __init__(self, train: Sequence[str], freeze: Sequence[str] = ()):
        for name, patterns in (("train", train), ("freeze", freeze)):
            some = isinstance(patterns, list | tuple) and all(isinstance(pattern, str) for pattern in patterns)
            if not some or (name == "train" and not patterns):
                raise ValueError(f'{name}={patterns}; expected a list of patterns such as ["mask_decoder.*"]')
        self.train = list(train)
        self.freeze = list(freeze)

    def __call__(self, model: nn.Module) -> None:
        """Marks the parameters and puts the model in eval mode.

        Eval mode holds for all parts and for good: SAM has no dropout, and TinyViT's BatchNorm statistics must not
        move, neither in a frozen encoder (no partial checkpoint would carry them) nor in a trained one (with a few
        images a step they are noise, and processes would disagree).

        Raises:
            ConfigError: a pattern matches no parameter, or nothing is left to train.
        """
        names = [name for name, _ in model.named_parameters()]
        # Refused, because a mistyped pattern would silently train less.
        for pattern in (*self.train, *self.freeze):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f'adapt: no parameter is called "{pattern}"; names begin with '
                    f"{', '.join(sorted({name.split('.')[0] + '.' for name in names}))}"
                )
        for name, parameter in model.named_parameters():
            # Set on every parameter, both ways: a second call with other patterns leaves nothing of the first.
            parameter.requires_grad = _matches(name, self.train) and not _matches(name, self.freeze)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(f"adapt.freeze={self.freeze} leaves nothing to train; remove a pattern")
        model.eval()


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
