"""Base weights: finds the file, reads it without running code in it, identifies the model, loads strictly."""

import logging
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from sam_ft.models.download import OFFICIAL, official_file
from sam_ft.models.sam import Sam
from sam_ft.utils import files
from sam_ft.utils.errors import CheckpointError
from sam_ft.utils.stand_ins import stand_in

StateDict = dict[str, Tensor]
log = logging.getLogger("sam_ft")

VIT_PATCH_EMBED = "image_encoder.patch_embed.proj.weight"
VIT_TYPES = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}  # (width, blocks)
TINY_STEM = "image_encoder.patch_embed.seq.0.c.weight"
TINY_TYPES: dict[tuple[int, ...], str] = {(32, 3, 3, 3): "vit_t", (32, 3, 1, 1): "lite_medsam"}
# Parts of parameter names that occur in one kind of foreign file only, and the remedy.
FOREIGN_NAMES = {
    "image_encoder.trunk.": "looks like SAM 2, whose encoder (Hiera) is not among the models here",
    "vision_encoder.": "looks like Hugging Face's SamModel, which renames everything; take the official file",
    "module.": "was saved from DistributedDataParallel; save model.module.state_dict() instead",
    "lora_": "looks like a partial checkpoint; load it with load_partial_weights on top of its base",
}


def find_checkpoint(model_type: str, checkpoint: str | Path) -> Path:
    """The file that the option `checkpoint` names: a path, or "official", which is downloaded if it is missing.

    Raises:
        CheckpointError: the file is missing.
    """
    if checkpoint == "official":
        return official_file(model_type)
    path = Path(checkpoint).expanduser().absolute()
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"{path} {found}; model.checkpoint must be the path of a file with weights of {model_type}, "
            "official (downloads them) or null (random weights)"
        )
    return path


def read_state_dict(path: str | Path) -> StateDict:
    """Reads a state dict from safetensors or a torch file, there alone or under "model" or "state_dict".

    No code in the file is run (weights_only=True).

    Raises:
        CheckpointError: the file is damaged or of another kind; the message names the likely one.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that are refused below
            # Memory-mapped, vit_h needs 2.4 GiB once and not twice; only torch's zip format allows it.
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # the readers raise almost any type on damaged bytes
        raise CheckpointError(f"{path} ({_describe_size(path)}) {_diagnose(path, error)}") from None
    # Training scripts wrap the state dict once or twice.
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    others = _non_tensors(loaded)
    if others:
        raise CheckpointError(f"{path} holds {others}, but tensors by name were expected: model.state_dict()")
    return dict(loaded)


def identify_model_type(state: StateDict) -> str | None:
    """The model type of a state dict, by its patch embedding and depth; None if it is none of the models here."""
    if VIT_PATCH_EMBED in state:
        blocks = {name.split(".")[2] for name in state if name.startswith("image_encoder.blocks.")}
        return VIT_TYPES.get((state[VIT_PATCH_EMBED].shape[0], len(blocks)))
    return TINY_TYPES.get(tuple(state[TINY_STEM].shape)) if TINY_STEM in state else None


def load_base_weights(model: Sam, path: str | Path) -> None:
    """Loads a checkpoint into `model`, name by name, with position tables interpolated to its input side.

    Either all weights are loaded or none.

    Raises:
        CheckpointError: the weights are of another model, have other names or shapes, or values that are not
            finite; or the file has the name of an official one, but not its contents.
    """
    path = Path(path)
    state = read_state_dict(path)
    resized, changes = _interpolate_positions(state, model.state_dict())
    _check_state_dict(model, resized, path, identify_model_type(state))
    for name, tensor in state.items():
        # A sum is fifty times as fast as isfinite, and not finite if any value is not. It may overflow in half
        # precision, so it only selects the tensors to check in full.
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} holds values that are not finite; the file cannot be used")
    # A file with an official name must be that file, and not an altered one.
    digest = files.sha256(path)
    for published in OFFICIAL.values():
        if path.name == published.name and digest != published.sha256:
            raise CheckpointError(
                f"{path} has SHA-256 {digest}, but the official file of that name has {published.sha256}; "
                "delete it to have it fetched again, or rename it if other weights are meant"
            )
    if changes:
        log.info("%s: interpolated to image_size=%d: %s", path.name, model.image_size, "; ".join(changes))
    model.load_state_dict(resized, strict=True)
    model.base_sha256 = digest


def _interpolate_positions(state: StateDict, wanted: StateDict) -> tuple[StateDict, list[str]]:
    """Interpolates the position embeddings whose size depends on the input side.

    The tables of windowed blocks have the same size at every input side, so only the global ones differ.
    → the state dict, and one line for each kind of table that changed
    """
    resized, changes = dict(state), []
    name = "image_encoder.pos_embed"  # (1, grid, grid, width)
    # Other ranks are left for `_check_state_dict` to refuse.
    if name in state and name in wanted and state[name].ndim == 4 == wanted[name].ndim:
        old, new = state[name].shape[1:3], wanted[name].shape[1:3]
        if old != new:
            channels_first = state[name].float().permute(0, 3, 1, 2)  # float32: a file may hold half precision
            table = F.interpolate(channels_first, size=tuple(new), mode="bicubic", align_corners=False)
            resized[name] = table.permute(0, 2, 3, 1).to(state[name].dtype)
            changes.append(f"pos_embed {old[0]}x{old[1]} -> {new[0]}x{new[1]} (bicubic)")
    counts: dict[str, int] = {}
    for name, table in state.items():  # (2 * grid - 1, head width): one row per relative position
        if not name.endswith((".rel_pos_h", ".rel_pos_w")) or name not in wanted or table.ndim != 2:
            continue
        rows = len(wanted[name])
        if len(table) != rows:
            resized[name] = F.interpolate(table.float().T[None], size=rows, mode="linear")[0].T.to(table.dtype)
            line = f"rel_pos tables {len(table)} -> {rows} rows (linear)"
            counts[line] = counts.get(line, 0) + 1
    return resized, changes + [f"{count} {line}" for line, count in counts.items()]


def _check_state_dict(model: Sam, state: StateDict, path: Path, looks_like: str | None) -> None:
    """Refuses a state dict whose names, shapes or types differ from the model's in any way.

    Raises:
        CheckpointError: naming the model that the file looks like and the first names that differ.
    """
    wanted = model.state_dict()
    differences = {
        "missing": [name for name in wanted if name not in state],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} ({_shape_and_type(tensor)}, expected {_shape_and_type(wanted[name])})"
            for name, tensor in state.items()
            if name in wanted and _shape_and_type(tensor) != _shape_and_type(wanted[name])
        ],
    }
    differences = {kind: names for kind, names in differences.items() if names}
    if not differences:
        return
    # The verdict is the first that fits: another model of this project, a known foreign file, a part of a model.
    hints = [hint for part, hint in FOREIGN_NAMES.items() if any(part in name for name in state)]
    if looks_like == model.model_type:
        verdict = f"looks like {looks_like}, but altered"
    elif looks_like:
        verdict = f"looks like {looks_like}, which model={looks_like} takes"
    elif hints:
        verdict = hints[0]
    elif list(differences) == ["missing"]:
        verdict = FOREIGN_NAMES["lora_"]
    else:
        verdict = "looks like none of the models here"
    first = "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for kind, names in differences.items()
    )
    raise CheckpointError(f"{path} {verdict}; expected weights of model={model.model_type}. Names that differ, {first}")


def _shape_and_type(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {'float' if tensor.is_floating_point() else 'integer'}"


def _non_tensors(loaded: Any) -> str | None:
    """Describes an object that is no dict of tensors by name; None if it is one."""
    if not isinstance(loaded, dict):
        return f"a {type(loaded).__name__}"
    if not loaded:
        return "an empty dict"
    others = [f"{key!r}: {type(value).__name__}" for key, value in loaded.items() if not isinstance(value, Tensor)]
    others += [f"the name {key!r}" for key in loaded if not isinstance(key, str)]
    return ", ".join(others[:3]) if others else None


def _diagnose(path: Path, error: Exception) -> str:
    """The likely cause why a file could not be read, and the remedy."""
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as reason:
        return f"cannot be read: {reason.strerror}"
    if (other := stand_in(head)) is not None:
        return other
    if "TorchScript" in str(error):
        return "is a TorchScript archive; tensors by name were expected: torch.save(model.state_dict(), PATH)"
    cut_off = isinstance(error, EOFError) or "EOF" in str(error) or "truncated" in str(error)
    if cut_off or (head.startswith(b"PK") and not zipfile.is_zipfile(path)):
        return "is cut off: its end is missing; fetch it again"
    if isinstance(error, pickle.UnpicklingError) and head.startswith((b"PK", b"\x80")):
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        return (
            f"holds Python objects besides tensors{f' ({found[1]})' if found else ''}; they can run code, "
            "so they were not loaded. Resave its tensors alone: torch.save(model.state_dict(), PATH)"
        )
    kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
    first_line = (str(error).splitlines() or [""])[0][:100]
    # torch's message on a file that is no pickle advises to run the code in it: leave it out
    detail = "" if isinstance(error, pickle.UnpicklingError) else f" ({type(error).__name__}: {first_line})"
    return f"is damaged, or no {kind} file at all{detail}; fetch it again"


def _describe_size(path: Path) -> str:
    """The size of a file, and the expected one if it has the name of an official file."""
    expected = [f", {published.size} expected" for published in OFFICIAL.values() if published.name == path.name]
    return f"{path.stat().st_size if path.exists() else 'no'} bytes{''.join(expected)}"
