"""Embeddings on disk, shared by all runs of a user: found by what they were made from, and checked as they are read."""

import logging
import math
import os
import random
import time
import zlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sam_ft.utils.files import atomic_path, home

log = logging.getLogger("sam_ft")

DTYPES = {"float16": torch.float16, "float32": torch.float32}
HEADER = 256  # bytes of an entry besides its numbers, about
ABANDONED = 24 * 3600  # seconds after which a half-written file is nobody's


class Plan(NamedTuple):
    """kept: keys of embeddings that the store holds or will hold · missing: those of them still to be made"""

    kept: set[str]
    missing: list[str]


class FeatureStore:
    """One file per image under SAM_FT_HOME/features, the same for every run that uses the same encoder.

    dtype: "float16" or "float32", how embeddings are written
    max_gb: size of all of them together; the least recently used leave first, never one that a living run uses
    views: of each training image, so many of its 8 flips and quarter turns are trained on; None leaves that to
        the augmentation

    Raises:
        ValueError: an option has another value.
    """

    def __init__(self, dtype: str = "float16", max_gb: float = 50.0, views: int | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype={dtype} is not one of {', '.join(DTYPES)}")
        if not 0 < max_gb < math.inf:
            raise ValueError(f"max_gb={max_gb}; expected a number above 0 (cache=none for none)")
        if views is not None and not 1 <= views <= 8:
            raise ValueError(f"views={views}; expected 1 to 8, or null")
        self.dtype = DTYPES[dtype]
        self.max_gb = max_gb
        self.views = views
        self.writable = True
        self._root = home() / "features"
        self._folder = self._root
        self._shape = (0, 0, 0)
        self._kept: set[str] = set()
        self._lease: Lease | None = None

    def open(self, encoder: str, shape: tuple[int, int, int]) -> None:
        """Chooses the encoder, by a digest of all that its embeddings depend on besides the image, and their shape."""
        self._shape = shape
        self._folder = self._root / f"{encoder}-{str(self.dtype).removeprefix('torch.')}"

    def load(self, key: str) -> Tensor | None:
        """The embedding (C, s, s) under a key, mapped into memory; None if it is not there or damaged.

        Its channels are last in memory, as the encoder leaves them and the decoder wants them.
        """
        try:
            with safe_open(self._path(key), framework="pt") as file:
                embedding, metadata = file.get_tensor("embedding"), file.metadata()
            whole = metadata["crc32"] == _crc32(embedding) and embedding.permute(2, 0, 1).shape == self._shape
        except Exception:  # damaged bytes come out of the reader as almost any type
            return None
        return embedding.permute(2, 0, 1) if whole else None

    def put(self, key: str, embedding: Tensor) -> bool:
        """Writes an embedding (C, s, s) that `plan` has room for; → whether it is there now."""
        if key not in self._kept or not self.writable:
            return False
        stored = embedding.detach().permute(1, 2, 0).to("cpu", self.dtype).contiguous()
        try:
            # not synced: the checksum tells if a power cut left less than all of it
            with atomic_path(self._path(key), sync=False) as path:
                safetensors.torch.save_file({"embedding": stored}, path, {"crc32": _crc32(stored)})
        except (OSError, SafetensorError) as error:
            self._give_up(error)
        return self.writable

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def plan(self, keys: Collection[str]) -> Plan:
        """Keeps what is there of `keys` for this run, and makes room for the others.

        One process asks for all, and the others take its answer by `keep`.
        """
        own = {self._path(key): key for key in keys}
        if not self.writable:
            return Plan({key for path, key in own.items() if path.exists()}, [])
        entry_bytes = math.prod(self._shape) * self.dtype.itemsize + HEADER
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / ".lock"):
                there = _entries(self._root)
                for path in own.keys() & there.keys():
                    with suppress(FileNotFoundError):
                        os.utime(path)
                missing = [path for path in own if path not in there]
                random.Random(os.getpid()).shuffle(missing)  # two runs that begin together help each other
                room = self._make_room(there, own, len(missing) * entry_bytes)
                fitting = missing[: int(room // entry_bytes)]
                kept = own.keys() - set(missing[len(fitting) :])
                if self._lease is None or not self._lease.is_there():
                    self._lease = Lease(self._root)
                self._lease.add(dict.fromkeys(kept, entry_bytes))
        except OSError as error:
            self._give_up(error)
            return Plan({key for path, key in own.items() if path.exists()}, [])
        if len(fitting) < len(missing):
            log.warning(
                "cache.max_gb=%g has room for %d of %d new embeddings (%.1f MB each); the other images are encoded "
                "each time they are needed",
                *(self.max_gb, len(fitting), len(missing), entry_bytes / 1e6),
            )
        return Plan({own[path] for path in kept}, [own[path] for path in fitting])

    def keep(self, plan: Plan) -> None:
        """Allows what was planned to be written, now and again if it turns out to be damaged."""
        self._kept |= plan.kept

    def _make_room(self, there: dict[Path, tuple[float, int]], own: Collection[Path], wanted: int) -> float:
        """Deletes what was not used for longest until `wanted` bytes fit, if they can; → bytes there is room for."""
        in_use = Lease.all_in_use(self._root)
        promised = sum(size for path, size in in_use.items() if path not in there and path not in own)
        room = self.max_gb * 1e9 - promised - sum(size for _, size in there.values())
        for path, (_, size) in sorted(there.items(), key=lambda entry: entry[1]):
            if room >= wanted or not wanted:
                break
            if path not in in_use and path not in own:
                path.unlink(missing_ok=True)
                room += size
        return max(0.0, room)

    def _give_up(self, error: Exception) -> None:
        if self.writable:
            log.warning(
                "embeddings can no longer be stored in %s (%s); images without one are encoded each time they are "
                "needed, which is slower. Make room, or set SAM_FT_HOME to a folder on another disk",
                *(self._root, error),
            )
        self.writable = False

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lease": None}  # a lock stays with its process; loaders only read


class Lease:
    """A list of the entries that a run uses or is about to write, believed as long as it holds the lock beside it."""

    def __init__(self, root: Path) -> None:
        self._list = root / "in_use" / uuid4().hex
        self._list.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._list.with_suffix(".lock"))
        self._lock.acquire()
        self._list.touch()

    def is_there(self) -> bool:
        return self._list.exists()

    def add(self, sizes: dict[Path, int]) -> None:
        """sizes: bytes of each entry"""
        lines = "".join(f"{size} {path.parent.name}/{path.name}\n" for path, size in sizes.items())
        before = self._list.stat().st_size
        try:
            with open(self._list, "a", encoding="utf-8") as file:
                file.write(lines)
        except OSError:  # a full disk takes a part of it, which nobody could read
            os.truncate(self._list, before)
            raise

    @staticmethod
    def all_in_use(root: Path) -> dict[Path, int]:
        """The entries of all living runs with their bytes; what dead ones left behind is removed."""
        found: dict[Path, int] = {}
        for lock_path in (root / "in_use").glob("*.lock"):
            list_path = lock_path.with_suffix("")
            try:
                with FileLock(lock_path, timeout=0):
                    list_path.unlink(missing_ok=True)
                lock_path.unlink(missing_ok=True)
            except Timeout:
                for line in list_path.read_text(encoding="utf-8").splitlines() if list_path.exists() else ():
                    size, name = line.split(" ", 1)
                    found[root / name] = int(size)
        return found


def _entries(root: Path) -> dict[Path, tuple[float, int]]:
    """Path → (last use, bytes) of all embeddings of all encoders; half-written files of dead runs are removed."""
    found = {}
    for path in root.glob("*/*.safetensors*"):
        try:
            status = path.stat()
            if path.suffix == ".safetensors":
                found[path] = (status.st_mtime, status.st_size)
            elif time.time() - status.st_mtime > ABANDONED:
                path.unlink()
        except FileNotFoundError:  # another run has finished or removed it
            continue
    return found


def _crc32(embedding: Tensor) -> str:
    """Finds any flipped byte, at several GB a second."""
    return str(zlib.crc32(embedding.reshape(-1).view(torch.uint8).numpy().data))


def no_store() -> None:
    """For cache=none: embeddings are made anew each time."""
