"""A model of the whole family's build that runs in milliseconds, and the loss of conf/loss/bce_iou.yaml."""

from copy import deepcopy
from functools import cache

import torch

from sam_ft.losses import Bce, Combined, Iou
from sam_ft.models.build import SPECS, ModelSpec, build_sam
from sam_ft.models.encoders.tiny_vit import TinyViT
from sam_ft.models.sam import Sam

SPEC = ModelSpec("vit", image_size=64, embed_dim=32, depth=2, num_heads=2, global_attn_indexes=(1,))

# MobileSAM's package gives its last downsampling a stride of 1 only where 320 channels follow.
SMALL_TINY_VIT = {"embed_dims": (16, 16, 24, 320), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 3, 10)}


def tiny_sam(seed: int = 0) -> Sam:
    """One windowed and one global block of 32 channels, input side 64, embedding side 4, SAM's own decoder.

    Weights are random, position tables too, so that a test can see a mistake in any of them.
    """
    return deepcopy(_built("vit", seed))


def tiny_vit_sam(model_type: str = "lite_medsam", seed: int = 0) -> Sam:
    """The same for MobileSAM (vit_t) and LiteMedSAM: four stages of a TinyViT, of few and narrow blocks."""
    return deepcopy(_built(model_type, seed))


@cache  # a copy takes a third of the time
def _built(model_type: str, seed: int) -> Sam:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model_type == "vit":
            sam = build_sam("tiny", spec=SPEC)
        else:
            sam = build_sam(model_type, image_size=64)
            sam.image_encoder = TinyViT(SPECS[model_type].stem, **SMALL_TINY_VIT)
        randomize(sam)
    return sam.eval()


def bce_iou() -> Combined:
    return Combined({"bce": Bce(), "soft_iou": Iou()})


def randomize(model: torch.nn.Module) -> None:
    """Moves the parameters and statistics that start out as zeros or ones to where they make a difference."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "rel_pos" in name or "pos_embed" in name or "attention_biases" in name:
                tensor.normal_(std=0.3)
            elif name.endswith("running_mean"):
                tensor.normal_(std=0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.7, 1.5)
            elif tensor.ndim == 1 and tensor.is_floating_point():  # biases, and the scales of norms
                tensor.add_(0.1 * torch.randn_like(tensor))
