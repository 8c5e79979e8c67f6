"""Train some parameters as they are and freeze the others."""

from collections.abc import Collection, Sequence
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
        for pattern in (*self.train, *self.freeze):
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(
                    f'adapt: no parameter is called "{pattern}"; names begin with '
                    f"{', '.join(sorted({name.split('.')[0] + '.' for name in names}))}"
                )
        for name, parameter in model.named_parameters():
            parameter.requires_grad = _matches(name, self.train) and not _matches(name, self.freeze)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(f"adapt.freeze={self.freeze} leaves nothing to train; remove a pattern")
        model.eval()


# What of the model only certain kinds of prompts reach, of `types.KINDS`, so that all others teach it nothing.
REACHED_BY: dict[str, tuple[str, ...]] = {
    "mask_decoder.output_hypernetworks_mlps.0.*": ("clear",),
    "mask_decoder.output_hypernetworks_mlps.[123].*": ("one point",),
    "prompt_encoder.point_embeddings.0.*": ("background point",),
    "prompt_encoder.point_embeddings.1.*": ("object point",),
    "prompt_encoder.point_embeddings.[23].*": ("box",),
    "prompt_encoder.not_a_point_embed.*": ("object point", "background point"),
    "prompt_encoder.mask_downscaling.*": ("mask",),
    "prompt_encoder.no_mask_embed.*": ("no mask",),
}


def freeze_unreached(model: nn.Module, asks: Collection[str]) -> list[str]:
    """Freezes what prompts of these kinds never reach, which would not learn but only decay.

    → the names of the parameters that this froze

    Raises:
        ConfigError: nothing is left to train.
    """
    unreached = [pattern for pattern, kinds in REACHED_BY.items() if not set(kinds) & set(asks)]
    frozen = [n for n, p in model.named_parameters() if p.requires_grad and _matches(n, unreached)]
    for name in frozen:
        model.get_parameter(name).requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"train_prompt reaches none of the parameters that adapt.train names ({', '.join(frozen[:4])}, ...); "
            "choose another prompt@train_prompt= or another adapt="
        )
    return frozen


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
