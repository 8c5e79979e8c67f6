"""The model card: README.md of a Hugging Face folder, whose header the hub and huggingface_hub's ModelCard read."""

import shlex
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sam_ft.export.request import ExportRequest

BASES = {"vit_b": "facebook/sam-vit-base", "vit_l": "facebook/sam-vit-large", "vit_h": "facebook/sam-vit-huge"}
CARD = """\
---
{header}---

# {name}

{description}

```python
from transformers import SamModel, SamProcessor

model, processor = SamModel.from_pretrained("{folder}"), SamProcessor.from_pretrained("{folder}")
inputs = processor(image, input_boxes=[[[40, 25, 180, 160]]], return_tensors="pt")
masks = model(**inputs, multimask_output=False).pred_masks
```

This folder was not uploaded. To publish it: `{upload}`
"""


def write_card(request: ExportRequest) -> Path:
    """Writes README.md, with the scores of the run in its header and in its text."""
    text = CARD.format(
        header=OmegaConf.to_yaml(OmegaConf.create(card_header(request))),
        name=request.name,
        description=request.description(),
        folder=request.folder.name,
        upload=upload_command(request.name, request.folder.name),
    )
    return request.write_text("README.md", text)


def upload_command(name: str, folder: Path | str) -> str:
    """The shell command that publishes an exported folder, which no export does itself."""
    return f"hf upload USER/{name} {shlex.quote(str(folder))}"


def card_header(request: ExportRequest) -> dict[str, Any]:
    """The metadata of the card, see https://github.com/huggingface/hub-docs/blob/main/modelcard.md"""
    header: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "mask-generation",
        "base_model": BASES[request.model.model_type],
        "tags": ["segment-anything"],
    }
    if metrics := [{"type": name, "value": round(tuned, 4)} for name, _, tuned in request.scores()]:
        result = {
            "task": {"type": "mask-generation"},
            "dataset": {"type": "own", "name": "validation images of the run", "split": "validation"},
            "metrics": metrics,
        }
        header["model-index"] = [{"name": request.name, "results": [result]}]
    return header
