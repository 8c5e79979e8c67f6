"""One file with the features of one image, checked as it is read."""

import zlib
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from sam_ft.types import Features
from sam_ft.utils.files import atomic_path

HEADER_BYTES = 256  # of a file besides its numbers, about


def write_entry(path: Path, features: Features) -> None:
    """Writes the features of one image, B = 1. Raises: OSError, SafetensorError"""
    tensors, notes = {}, {}
    for number, one in enumerate(features.maps):
        order = _memory_order(one[0])
        tensors[f"map{number}"] = one[0].detach().permute(order).cpu().contiguous()
        notes[f"order{number}"] = " ".join(map(str, order))
    # not synced: the checksum tells if a power cut left less than all of it
    with atomic_path(path, sync=False) as temporary:
        safetensors.torch.save_file(tensors, temporary, {**notes, "crc32": _crc32(tensors)})


def read_entry(path: Path) -> Features | None:
    """The features in a file, B = 1, laid out in memory as the encoder left them; None if missing or damaged.

    A damaged file is removed, so that the next `EmbeddingCache.fill` writes it again.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors, notes = {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata()
        if notes["crc32"] == _crc32(tensors):
            return Features(tuple(_as_before(one, notes[f"order{i}"]) for i, one in enumerate(tensors.values())))
    except FileNotFoundError:
        return None
    except Exception:  # damaged bytes come out of the reader as almost any type
        pass
    path.unlink(missing_ok=True)
    return None


def _memory_order(one: Tensor) -> list[int]:
    """The axes from the one with the largest stride to that with the smallest: channels are last after most layers."""
    return sorted(range(one.ndim), key=one.stride, reverse=True)


def _as_before(stored: Tensor, order: str) -> Tensor:
    axes = [int(axis) for axis in order.split()]
    return stored.permute([axes.index(axis) for axis in range(len(axes))])[None]


def _crc32(tensors: dict[str, Tensor]) -> str:
    """Finds any flipped byte, at several GB a second."""
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return str(checksum)
