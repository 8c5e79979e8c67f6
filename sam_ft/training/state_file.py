"""The file of a training state, to resume from, and the one before it. See `tensor_file`"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from sam_ft.models import Sam
from sam_ft.training.checkpoint import base_identity
from sam_ft.training.ema import Ema
from sam_ft.training.parameters import trained_parameters
from sam_ft.training.tensor_file import read_tensors, write_tensors
from sam_ft.utils import distributed
from sam_ft.utils.errors import CheckpointError, DamagedFileError

log = logging.getLogger("sam_ft")

T = TypeVar("T")


def save_training_state(
    path: str | Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema, progress: dict
) -> None:
    """Writes all that a run needs to resume: trained weights, their average, optimizer state and progress.

    The file that was there before stays as `previous_state(path)`.
    """
    trained = trained_parameters(model)
    tensors = {f"model.{name}": p.detach() for name, p in trained.items()}
    tensors |= {f"ema.{name}": average for name, average in ema.averages.items()}
    for name, parameter in trained.items():  # by name: indices change with the parameter groups
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer.{name}.{key}": torch.as_tensor(value) for key, value in state.items()}
    write_tensors(path, tensors, {**base_identity(model, trained), **progress}, keep=previous_state(path))


def previous_state(path: str | Path) -> Path:
    """The file of the training state before the one in `path`: last-1.safetensors beside last.safetensors."""
    path = Path(path)
    return path.with_name(f"{path.stem}-1{path.suffix}")


def load_training_state(
    path: str | Path, model: Sam, optimizer: torch.optim.Optimizer, ema: Ema, parse: Callable[[dict], T]
) -> T:
    """Restores what `save_training_state` wrote and returns its `progress`, as `parse` makes it.

    All ranks call this; the main one reads and checks the file for all. If it is damaged or missing, the previous one
    takes its place.

    parse: raises a CheckpointError, or a DamagedFileError for impossible values

    Raises:
        CheckpointError: on the main rank; both files are missing or damaged, or the file lacks a field or belongs to
            another model. Nothing is restored then. The others exit.
    """
    path = Path(path)
    trained = trained_parameters(model)
    targets: dict[str, Tensor] = {f"model.{name}": p for name, p in trained.items()}
    targets |= {f"ema.{name}": average for name, average in ema.averages.items()}
    found: dict[str, Tensor] = {}

    def read(path: Path) -> T:
        tensors, progress = read_tensors(path)
        identity = base_identity(model, trained)
        same = targets.keys() == {name for name in tensors if name.startswith(("model.", "ema."))}
        if not same or any(progress.get(key) != ours for key, ours in identity.items()):
            raise CheckpointError(f"{path}: belongs to another model or adapt setting; choose another name=")
        try:
            parsed = parse(progress)
        except CheckpointError as error:
            raise type(error)(f"{path}: {error}") from None
        found.update(tensors)
        return parsed

    parsed = distributed.broadcast_from_main(lambda: _read_newest(path, read))
    tensors = distributed.broadcast_tensors(found)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])
    parameters = dict(model.named_parameters())
    # a fused optimizer needs its step count on the parameter's device, any other on the CPU
    fused = {p for group in optimizer.param_groups if group.get("fused") for p in group["params"]}
    for full_name, tensor in tensors.items():
        if full_name.startswith("optimizer."):
            name, key = full_name.removeprefix("optimizer.").rsplit(".", 1)
            parameter = parameters[name]
            on_device = tensor.ndim > 0 or parameter in fused
            optimizer.state[parameter][key] = tensor.to(parameter.device) if on_device else tensor
    return parsed


def _read_newest(path: Path, read: Callable[[Path], T]) -> T:
    """Reads `path`, or, if it is damaged or missing, the previous state, which then takes its place."""
    older = previous_state(path)
    try:
        try:
            return read(path)
        except CheckpointError as error:
            if not older.is_file() or (path.exists() and not isinstance(error, DamagedFileError)):
                raise
            parsed = read(older)
            log.warning("%s; the run goes on from the state before it, %s", error, older.name)
    except DamagedFileError as error:
        raise CheckpointError(f"{error}; start anew with overwrite=true, which replaces best.safetensors too") from None
    os.replace(older, path)  # else the next `save_training_state` would keep the damaged one in its place
    return parsed
