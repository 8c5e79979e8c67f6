"""A run in one folder that needs no base checkpoint, for sam-ft itself."""

from pathlib import Path
from typing import Any

from sam_ft.cli.run_config import read_run_config, write_run_config
from sam_ft.data.io.images import READING
from sam_ft.export.request import ExportRequest
from sam_ft.training.checkpoint import save_all_weights

USAGE = """
It is used as the directory of a run is, and needs no base checkpoint:

```bash
sam-ft predict run={folder} images=DIR
```

```python
from sam_ft import Predictor

masks, pred_iou, logits = Predictor.from_run("{folder}").predict("image.png", boxes=[[40, 25, 180, 160]])
```

`sam-ft evaluate` needs `data=`, and scores the tuned model alone: zero-shot weights are not in the folder.
"""
# Settings that a reader of the run needs. Those that name folders of this machine stay here.
KEPT = ("precision", "eval_prompt", "metric", "cache", "monitor")
KEPT_OF_DATA = ("_target_", *READING)  # how images are read


def export_safetensors(request: ExportRequest) -> list[Path]:
    """Writes a run's directory whose best.safetensors holds all weights: base, learned, merged, and the head."""
    settings = read_run_config(request.run / "config.yaml")
    data = settings.get("data") or {}
    kept: dict[str, Any] = {
        "data": {name: data[name] for name in KEPT_OF_DATA if name in data},
        "model": {**settings["model"], "checkpoint": None},
        **{name: settings[name] for name in KEPT if name in settings},
    }
    config, weights = request.folder / "config.yaml", request.folder / "checkpoints/best.safetensors"
    # The file has a base of its own, and updates of adapt.Lora are merged.
    notes = {name: value for name, value in request.notes.items() if name not in ("lora", "base_sha256", "adapt")}
    save_all_weights(request.model, weights, **notes)
    write_run_config(config, kept)
    readme = request.write_readme([weights], USAGE.format(folder=request.folder.name), with_head=True)
    return [weights, config, readme]
