"""Tensors in a safetensors file, never a pickle, written atomically and with a digest of all of it.

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
from sam_ft.utils.errors import CheckpointError, DamagedFileError
from sam_ft.utils.files import as_json, atomic_path

FORMAT_VERSION = 2  # of a run's directory: its config.yaml and its checkpoints
DIGESTS = ("sha256", "tensors", "tensors_sha256")  # checksums among the metadata, the last of older versions


def write_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict, keep: Path | None = None) -> None:
    """Writes tensors, with any JSON values as metadata.

    keep: a new name for the file that was there before

    Raises:
        CheckpointError: it cannot be written.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}  # safetensors refuses views
    # safetensors metadata holds only strings; JSON preserves numbers and lists
    notes = {key: as_json(value) for key, value in {"format_version": FORMAT_VERSION, **metadata}.items()}
    notes["tensors"] = _digest_with_layout(tensors)
    try:
        with atomic_path(path, size=sum(tensor.nbytes for tensor in tensors.values()), keep=keep) as temporary:
            save_file(tensors, temporary, {**notes, "sha256": _digest_of_notes(notes)})
    except WriteError as error:
        raise CheckpointError(str(error)) from error


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the metadata of a file that `write_tensors` wrote.

    Raises:
        CheckpointError: the file is missing, or of another version.
        DamagedFileError: it is damaged, or of another program.
    """
    return _read(path, with_tensors=True)


def read_metadata(path: str | Path) -> dict:
    """The metadata of such a file alone, without a look at its tensors. Raises: as `read_tensors`"""
    return _read(path, with_tensors=False)[1]


def _read(path: str | Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict]:
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118
        metadata = {key: value if key in DIGESTS else json.loads(value) for key, value in notes.items()}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        size = path.stat().st_size
        raise DamagedFileError(
            f"{path}: not a partial checkpoint of this project, or damaged ({size} bytes): {error}"
        ) from error
    version = metadata.get("format_version")
    if version is None:
        raise DamagedFileError(f"{path}: a safetensors file, but not a partial checkpoint of this project")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(f"{path}: {describe_version(version)}")
    _check_digests(path, tensors if with_tensors else None, notes)
    return tensors, {key: value for key, value in metadata.items() if key not in DIGESTS}


def _check_digests(path: Path, tensors: dict[str, Tensor] | None, notes: dict[str, str]) -> None:
    """notes: the metadata as they stand in the file. Raises: DamagedFileError"""
    own, older = notes.pop("sha256", None), notes.get("tensors_sha256")
    # Files of older versions have a checksum of their tensors alone.
    matches = own == _digest_of_notes(notes) if own else older is not None
    if matches and tensors is not None:
        matches = notes.get("tensors") == _digest_with_layout(tensors) if own else older == as_json(digest_of(tensors))
    if not matches:
        raise DamagedFileError(f"{path}: its tensors or metadata do not match their checksum: the file is damaged")


def describe_version(version: Any) -> str:
    """For a message about a file of another format version than FORMAT_VERSION; None: it names no version."""
    newer = type(version) is int and version > FORMAT_VERSION
    age, remedy = ("a newer", "update sam-ft") if newer else ("an older", "train again under another name=")
    came = "no format_version" if version is None else f"format_version {json.dumps(version, default=str)}"
    return f"was written by {age} version of sam-ft ({came}, expected {FORMAT_VERSION}); {remedy}"


def _digest_of_notes(notes: dict[str, str]) -> str:
    """The SHA-256 of the metadata, among them that of the tensors."""
    return hashlib.sha256(repr(sorted(notes.items())).encode()).hexdigest()


def _digest_with_layout(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of tensors, their shapes and number formats."""
    layout = [(name, str(one.dtype), list(one.shape)) for name, one in sorted(tensors.items())]
    return hashlib.sha256(repr((digest_of(tensors), layout)).encode()).hexdigest()


def digest_of(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of the names and the bytes of tensors on the CPU."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        # As bytes: NumPy has no bfloat16.
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
