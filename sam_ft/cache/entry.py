"""One file with the features of one image, checked as it is read."""

import logging
import stat
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from sam_ft.types import Features
from sam_ft.utils.files import atomic_path

log = logging.getLogger("sam_ft")

FORMAT = "2"  # to be raised when files would be read in another way than before
HEADER_BYTES = 256  # of a file besides its numbers, about


def write_entry(path: Path, features: Features) -> None:
    """Writes the features of one image, B = 1, and the names of the file and its folder, which are its key.

    Raises: WriteError
    """
    # Stored in their memory order, which safetensors does not keep by itself; `read_entry` restores it.
    orders = [_memory_order(one[0]) for one in features.maps]
    maps = [one[0].detach().permute(order).cpu().contiguous() for one, order in zip(features.maps, orders, strict=True)]
    notes = {"key": _key(path), **{f"order{i}": " ".join(map(str, order)) for i, order in enumerate(orders)}}
    tensors = {f"map{i}": one for i, one in enumerate(maps)}
    # not synced: the checksum tells if a power cut left less than all of it
    with atomic_path(path, sync=False, size=sum(one.nbytes for one in maps)) as temporary:
        safetensors.torch.save_file(tensors, temporary, {**notes, "crc32": _crc32(maps, notes)})


def is_entry(path: Path) -> bool:
    """Whether a file is there. A folder, a link or a device in its place is none, and is never opened."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def read_entry(path: Path) -> Features | None:
    """The features in a file, B = 1, laid out in memory as the encoder left them; None if missing or damaged.

    A damaged file, or a copy of another one, is deleted with a warning, and the next `EmbeddingCache.fill` writes it
    again.
    """
    if not is_entry(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes, maps = file.metadata(), [file.get_tensor(f"map{i}") for i in range(len(file.keys()))]
        if notes.pop("crc32") == _crc32(maps, notes) and notes["key"] == _key(path):
            return Features(tuple(_as_before(one, notes[f"order{i}"]) for i, one in enumerate(maps)))
    except OSError:  # missing, or it cannot be opened at the moment
        return None
    except Exception:  # damaged bytes come out of the reader as almost any type
        pass
    # Reached by damaged entries only.
    log.warning("%s: is damaged, or the embedding of another image or encoder; its image is encoded again", path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s: cannot be removed (%s)", path, error.strerror)
    return None


def _key(path: Path) -> str:
    """A file that was copied or renamed has another one."""
    return f"{path.parent.name}/{path.stem}"


def _memory_order(one: Tensor) -> list[int]:
    """The axes from the one with the largest stride to that with the smallest: channels are last after most layers."""
    return sorted(range(one.ndim), key=one.stride, reverse=True)


def _as_before(stored: Tensor, order: str) -> Tensor:
    axes = [int(axis) for axis in order.split()]
    return stored.permute([axes.index(axis) for axis in range(len(axes))])[None]


def _crc32(maps: Sequence[Tensor], notes: Mapping[str, str]) -> str:
    """Finds any flipped byte of the numbers and of the notes, at several GB a second."""
    checksum = zlib.crc32(repr(sorted(notes.items())).encode())
    for one in maps:
        checksum = zlib.crc32(one.reshape(-1).view(torch.uint8).numpy().data, checksum)
    return str(checksum)
