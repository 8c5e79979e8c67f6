"""Trains a head alone, on top of the weights of a finished run."""

from pathlib import Path

from sam_ft.adapt.lora_layer import lora_options
from sam_ft.models import Sam
from sam_ft.models.heads import in_head
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils.errors import ConfigError


def train_head_alone(model: Sam, start: str | Path) -> None:
    """Loads the weights of a run into a model with a head, and freezes all but the head.

    The partial checkpoints that follow hold the weights of that run too, unchanged. A head of that run goes on.

    start: a partial checkpoint, or the directory of a run

    Raises:
        ConfigError: the run trained with LoRA, and the model has no such layers.
        CheckpointError: the weights are missing or do not fit their base.
    """
    path = Path(start).expanduser()
    path = path / "checkpoints/best.safetensors" if path.is_dir() else path
    tensors, metadata = read_tensors(path)
    if metadata.get("lora") and not lora_options(model):
        raise ConfigError(f"init={start}: was trained with adapt=lora; choose the same adapt= and its options")
    load_partial_weights(model, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = in_head(name)
    model.tuned = frozenset(name for name in tensors if not in_head(name))
