"""One file with the features of one image, checked as it is read."""

import zlib
from collections.abc import Sequence
from contextlib import suppress
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
    # Stored in their memory order, which safetensors does not keep by itself; `read_entry` restores it.
    orders = [_memory_order(one[0]) for one in features.maps]
    maps = [one[0].detach().permute(order).cpu().contiguous() for one, order in zip(features.maps, orders, strict=True)]
    notes = {f"order{i}": " ".join(map(str, order)) for i, order in enumerate(orders)}
    # not synced: the checksum tells if a power cut left less than all of it
    with atomic_path(path, sync=False) as temporary:
        tensors = {f"map{i}": one for i, one in enumerate(maps)}
        safetensors.torch.save_file(tensors, temporary, {**notes, "crc32": _crc32(maps)})


def read_entry(path: Path) -> Features | None:
    """The features in a file, B = 1, laid out in memory as the encoder left them; None if missing or damaged.

    A damaged file is deleted, so that the next `EmbeddingCache.fill` writes it again.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes, maps = file.metadata(), [file.get_tensor(f"map{i}") for i in range(len(file.keys()))]
        if notes["crc32"] == _crc32(maps):
            return Features(tuple(_as_before(one, notes[f"order{i}"]) for i, one in enumerate(maps)))
    except OSError:  # missing, or it cannot be opened at the moment
        return None
    except Exception:  # damaged bytes come out of the reader as almost any type
        pass
    # Reached by damaged entries only.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return None


def _memory_order(one: Tensor) -> list[int]:
    """The axes from the one with the largest stride to that with the smallest: channels are last after most layers."""
    return sorted(range(one.ndim), key=one.stride, reverse=True)


def _as_before(stored: Tensor, order: str) -> Tensor:
    axes = [int(axis) for axis in order.split()]
    return stored.permute([axes.index(axis) for axis in range(len(axes))])[None]


def _crc32(maps: Sequence[Tensor]) -> str:
    """Finds any flipped byte, at several GB a second."""
    checksum = 0
    for one in maps:
        checksum = zlib.crc32(one.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return str(checksum)
