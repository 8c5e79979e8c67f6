"""The space that cached embeddings take on disk: least recently used ones are deleted, never those of a living run."""

import logging
import os
import random
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from filelock import FileLock, Timeout

log = logging.getLogger("sam_ft")

SUFFIX = ".safetensors"
ABANDONED = 24 * 3600  # seconds after which a half-written file belongs to no run


class Plan(NamedTuple):
    """kept: files that are there or may be written · missing: those of them still to be written"""

    kept: set[str]
    missing: list[str]


class Space:
    """All files below `root` of all encoders, with one limit on their size; each is named "folder/key.safetensors".

    max_gb: size of all of them together
    """

    def __init__(self, root: Path, max_gb: float) -> None:
        self.root = root
        self.max_gb = max_gb
        self._lease: Lease | None = None

    def plan(self, own: Collection[str], entry_bytes: int) -> Plan:
        """Keeps the files of `own` that are there for this run, and makes room for the others.

        One process calls this for all. Raises: OSError
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):
            present = _present(self.root)
            # The time stamp of a file is its last use.
            for name in present.keys() & set(own):
                with suppress(FileNotFoundError):
                    os.utime(self.root / name)
            missing = sorted(set(own) - present.keys())
            random.Random(os.getpid()).shuffle(missing)  # two runs that begin together help each other
            # As many of the missing as fit; the others are encoded each time.
            room = self._make_room(present, own, len(missing) * entry_bytes)
            fitting = missing[: int(room // entry_bytes)]
            kept = set(own) - set(missing[len(fitting) :])
            if self._lease is None or not self._lease.exists():  # someone may have deleted the folder
                self._lease = Lease(self.root)
            self._lease.add(dict.fromkeys(kept, entry_bytes))
        if len(fitting) < len(missing):
            log.warning(
                "cache.max_gb=%g has room for %d of %d new embeddings (%.1f MB each); a batch that holds one of the "
                "other images is encoded each time it is needed",
                *(self.max_gb, len(fitting), len(missing), entry_bytes / 1e6),
            )
        return Plan(kept, fitting)

    def _make_room(self, present: dict[str, tuple[float, int]], own: Collection[str], wanted: int) -> float:
        """Deletes the least recently used files until `wanted` bytes fit, if they can; → bytes there is room for."""
        in_use = Lease.all_in_use(self.root)
        # Files that living runs are about to write.
        promised = sum(size for name, size in in_use.items() if name not in present and name not in own)
        room = self.max_gb * 1e9 - promised - sum(size for _, size in present.values())
        for name, (_, size) in sorted(present.items(), key=lambda entry: entry[1]):  # oldest first
            if room >= wanted or not wanted:
                break
            if name not in in_use and name not in own:
                (self.root / name).unlink(missing_ok=True)
                room += size
        return max(0.0, room)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_lease": None}  # a lock stays with its process; loaders only read


class Lease:
    """A list of the files that a run uses or is about to write, valid as long as the run holds the lock beside it."""

    def __init__(self, root: Path) -> None:
        self._list = root / "in_use" / uuid4().hex
        self._list.parent.mkdir(exist_ok=True)
        self._lock = FileLock(self._list.with_suffix(".lock"))
        self._lock.acquire()
        self._list.touch()

    def exists(self) -> bool:
        return self._list.exists()

    def add(self, sizes: dict[str, int]) -> None:
        """sizes: bytes of each file"""
        lines = "".join(f"{size} {name}\n" for name, size in sizes.items())
        before = self._list.stat().st_size
        try:
            with open(self._list, "a", encoding="utf-8") as file:
                file.write(lines)
        except OSError:  # a full disk takes a part of it, which cannot be read again
            os.truncate(self._list, before)
            raise

    @staticmethod
    def all_in_use(root: Path) -> dict[str, int]:
        """The files of all living runs with their bytes; removes the lists of dead runs."""
        found: dict[str, int] = {}
        for lock_path in (root / "in_use").glob("*.lock"):
            list_path = lock_path.with_suffix("")
            try:
                # The lock of a living run is held; one that can be taken belonged to a dead one.
                with FileLock(lock_path, timeout=0):
                    list_path.unlink(missing_ok=True)
                lock_path.unlink(missing_ok=True)
            except Timeout:
                for line in list_path.read_text(encoding="utf-8").splitlines() if list_path.exists() else ():
                    size, name = line.split(" ", 1)
                    found[name] = int(size)
        return found


def _present(root: Path) -> dict[str, tuple[float, int]]:
    """Name → (last use, bytes) of all embeddings of all encoders; removes half-written files of dead runs."""
    found = {}
    for folder in [entry for entry in os.scandir(root) if entry.is_dir()]:
        with suppress(FileNotFoundError):  # someone has deleted the folder
            for file in os.scandir(folder.path):
                with suppress(FileNotFoundError):  # another run has finished or deleted the file
                    status = file.stat()
                    if file.name.endswith(SUFFIX):
                        found[f"{folder.name}/{file.name}"] = (status.st_mtime, status.st_size)
                    elif SUFFIX in file.name and time.time() - status.st_mtime > ABANDONED:
                        os.unlink(file.path)
    return found
