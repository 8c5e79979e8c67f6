"""Tensors in a safetensors file, never a pickle, written atomically and with a digest.

The digest is there because the format itself does not detect a flipped bit.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam_ft.utils.disk import WriteError
from sam_ft.utils.errors import CheckpointError
from sam_ft.utils.files import as_json, atomic_path

FORMAT_VERSION = 2  # of a run's directory: its config.yaml and its checkpoints


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict) -> None:
    """Writes tensors, with any JSON values as metadata. Raises: CheckpointError"""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}  # safetensors refuses views
    metadata = {"format_version": FORMAT_VERSION, **metadata, "tensors_sha256": digest_of(tensors)}
    try:
        with atomic_path(path, size=sum(tensor.nbytes for tensor in tensors.values())) as temporary:
            # safetensors metadata holds only strings; JSON preserves numbers and lists
            save_file(tensors, temporary, {key: as_json(value) for key, value in metadata.items()})
    except WriteError as error:
        raise CheckpointError(str(error)) from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the metadata of a file that `write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, of another program or of another version.
    """
    tensors, metadata = _read(path, with_tensors=True)
    if metadata.pop("tensors_sha256", None) != digest_of(tensors):
        raise CheckpointError(f"{path}: its tensors do not match their checksum: the file is damaged")
    return tensors, metadata


def read_metadata(path: str | Path) -> dict:
    """The metadata of such a file alone, without a look at its tensors. Raises: CheckpointError, as above"""
    return _read(path, with_tensors=False)[1]


def _read(path: str | Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict]:
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path}: not a partial checkpoint of this project, or damaged ({size} bytes): {error}"
        ) from error
    version = metadata.get("format_version")
    if version is None:
        raise CheckpointError(f"{path}: a safetensors file, but not a partial checkpoint of this project")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: {describe_version(version)}")
    return tensors, metadata


def describe_version(version: Any) -> str:
    """For a message about a file of another format version than FORMAT_VERSION; None: it names no version."""
    newer = isinstance(version, int) and version > FORMAT_VERSION
    age, remedy = ("a newer", "update sam-ft") if newer else ("an older", "train again under another name=")
    came = "no format_version" if version is None else f"format_version {version}"
    return f"was written by {age} version of sam-ft ({came}, expected {FORMAT_VERSION}); {remedy}"


def digest_of(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of the names and the bytes of tensors on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
