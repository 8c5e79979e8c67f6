"""Segment Anything: the model, its parts, and its published weights."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

from sam_ft.models.build import build_sam
from sam_ft.models.sam import Sam
from sam_ft.models.weights import find_checkpoint, load_base_weights

__all__ = ["Sam", "build_model", "build_sam"]


def build_model(model_type: str, checkpoint: str | Path | None = "official", image_size: int | None = None) -> Sam:
    """Builds a model with its base weights, in eval mode.

    model_type: vit_h, vit_l, vit_b, vit_t or lite_medsam
    checkpoint: "official" (downloaded once), the path of a file, or None for random weights
    image_size: side S of the input in pixels; None for the side that the model was trained at

    Raises:
        ConfigError: there is no such model, or it cannot have this image size.
        CheckpointError: the weights are missing, damaged or of another model.
    """
    with nullcontext() if checkpoint is None else _WithoutInit():
        model = build_sam(model_type, image_size=image_size)
    if checkpoint is not None:
        load_base_weights(model, find_checkpoint(model_type, checkpoint))
    return model


class _WithoutInit(TorchFunctionMode):
    """Skips random initialization, 13 s for vit_h, because a strict load replaces all values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
