"""The models by name: their hyperparameters, and a model with random weights."""

from dataclasses import dataclass
from typing import Literal

from sam_ft.models.encoders.encoder import ImageEncoder
from sam_ft.models.encoders.tiny_vit import TinyViT
from sam_ft.models.encoders.vit import ImageEncoderViT
from sam_ft.models.mask_decoder import MaskDecoder
from sam_ft.models.prompt_encoder import PromptEncoder
from sam_ft.models.sam import Normalize, Sam
from sam_ft.utils.errors import ConfigError

DECODER_DIM = 256
MAX_IMAGE_SIZE = 8192  # its position table takes 0.8 GB in vit_b, and its attention more than any GPU has


@dataclass(frozen=True)
class ModelSpec:
    """Hyperparameters that differ between the models; prompt encoder and mask decoder are the same in all.

    image_size: S at which the weights were trained · stride: S / s, input pixels per cell of the embedding
    embed_dim, depth, num_heads, global_attn_indexes: of the "vit" encoder · stem: of the "tiny_vit" encoder
    """

    encoder: Literal["vit", "tiny_vit"]
    image_size: int = 1024
    stride: int = 16
    normalize: Normalize = "imagenet"
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    stem: Literal["conv", "pixel"] = "conv"


SPECS = {
    "vit_h": ModelSpec("vit", embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
    "vit_l": ModelSpec("vit", embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    "vit_b": ModelSpec("vit", embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
    "vit_t": ModelSpec("tiny_vit", stem="conv"),
    "lite_medsam": ModelSpec("tiny_vit", image_size=256, stride=4, normalize="minmax", stem="pixel"),
}


def build_sam(model_type: str, image_size: int | None = None, spec: ModelSpec | None = None) -> Sam:
    """Builds a model with random weights, in eval mode.

    image_size: S; None for the one at which its weights were trained · spec: instead of `SPECS[model_type]`

    Raises:
        ConfigError: the model type is not known, or the image size does not divide into whole cells.
    """
    if spec is None:
        if model_type not in SPECS:
            raise ConfigError(f"model_type is {model_type!r}; choose one of {', '.join(SPECS)}")
        spec = SPECS[model_type]
    side = spec.image_size if image_size is None else image_size
    if side > MAX_IMAGE_SIZE:
        raise ConfigError(f"image_size is {side}; expected at most {MAX_IMAGE_SIZE}. Use data.tile for larger images")
    if side < spec.stride or side % spec.stride:
        nearest = max(spec.stride, round(side / spec.stride) * spec.stride)
        raise ConfigError(
            f"image_size is {side}, but {model_type} needs a multiple of {spec.stride}; "
            f"try {nearest}, or {spec.image_size}, for which its weights were made"
        )
    sam = Sam(
        image_encoder=_build_encoder(spec, side),
        prompt_encoder=PromptEncoder(DECODER_DIM, image_embedding_size=side // spec.stride, input_side=side),
        mask_decoder=MaskDecoder(DECODER_DIM),
        model_type=model_type,
        image_size=side,
        normalize=spec.normalize,
    )
    return sam.eval()  # and stays so in training, see `adapt.Freeze`


def _build_encoder(spec: ModelSpec, side: int) -> ImageEncoder:
    if spec.encoder == "tiny_vit":
        # Of the two published models only MobileSAM's, with the stem of convolutions, kept the classifier.
        return TinyViT(stem=spec.stem, out_channels=DECODER_DIM, classifier=spec.stem == "conv")
    return ImageEncoderViT(
        image_size=side,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.num_heads,
        global_attn_indexes=spec.global_attn_indexes,
        patch_size=spec.stride,
        out_channels=DECODER_DIM,
    )
