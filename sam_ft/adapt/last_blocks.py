"""Train the last part of the image encoder, and other parameters as they are."""

import re
from collections.abc import Sequence

from sam_ft.adapt.freeze import Freeze
from sam_ft.models import Sam
from sam_ft.models.encoders.encoder import ImageEncoder
from sam_ft.utils.errors import ConfigError


class LastBlocks:
    """Trains the last blocks of the image encoder with all that follows them, and the parameters that match `train`.

    The blocks before them are frozen, so their output is computed once for each image and cached.

    blocks: transformer blocks, counted from the end; 0 is the neck alone
    stages: whole stages of a TinyViT, counted from the end, in place of `blocks`
    train, freeze: patterns as of `Freeze`; `freeze` also applies to the encoder

    Raises:
        ValueError: both or none of `blocks` and `stages` is given, or one of them is out of range.
    """

    def __init__(
        self,
        blocks: int | None = 1,
        stages: int | None = None,
        train: Sequence[str] = ("mask_decoder.*",),
        freeze: Sequence[str] = (),
    ) -> None:
        if (blocks is None) == (stages is None):
            raise ValueError(f"blocks={blocks} and stages={stages}; set one of them, and the other to null")
        for name, count, least in (("blocks", blocks, 0), ("stages", stages, 1)):
            if count is not None and count < least:
                raise ValueError(f"{name}={count}; expected a whole number of at least {least}")
        Freeze(train, freeze)  # checks the patterns
        self.blocks = blocks
        self.stages = stages
        self.train = list(train)
        self.freeze = list(freeze)

    def __call__(self, model: Sam) -> None:
        """Marks the parameters as `Freeze` does. Raises: ConfigError"""
        names = last_unit_names(model.image_encoder, self.blocks, self.stages)
        Freeze([*self.train, *(f"image_encoder.{name}.*" for name in names)], self.freeze)(model)


def last_unit_names(encoder: ImageEncoder, blocks: int | None, stages: int | None) -> list[str]:
    """The modules of an encoder from its last `blocks` blocks on, or its last `stages` stages.

    Raises:
        ConfigError: the encoder has fewer blocks, fewer stages, or none.
    """
    names = [unit.names[0] for unit in encoder.units()]
    # blocks.7 of a ViT, layers.3.blocks.1 of a TinyViT; a stage of TinyViT begins at its first block.
    kind, wanted, pattern = "blocks", blocks or 0, r"(layers\.\d+\.)?blocks\.\d+"
    if stages is not None:
        kind, wanted, pattern = "stages", stages, r"layers\.\d+\.blocks\.0"
    starts = [index for index, name in enumerate(names) if re.fullmatch(pattern, name)]
    if wanted > len(starts):
        raise ConfigError(f"adapt.{kind}={wanted}; this image encoder has {len(starts)} {kind}")
    return names[starts[-wanted] if wanted else names.index("neck") :]
