"""The space that cached embeddings take on disk: the least recently used ones make room for those of a new run."""

import logging
import os
import random
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from sam_ft.utils.leftovers import remove_leftover, remove_leftovers

log = logging.getLogger("sam_ft")

SUFFIX = ".safetensors"
ABANDONED = 24 * 3600  # seconds after which a half-written file of safetensors belongs to no run


class Plan(NamedTuple):
    """kept: files that are there or may be written · missing: those of them still to be written"""

    kept: set[str]
    missing: list[str]


class Space:
    """All files below `root` of all encoders, with one limit on their size; each is named "folder/key.safetensors".

    max_gb: size of all of them together

    A run deletes only files that no run has used since it started itself. So of two runs at once, which together need
    more than the limit, the later one may delete files of the earlier one, never the other way round. The earlier one
    then encodes those images each time, with the same results. Neither counts what the other is about to write, so the
    files may exceed the limit by that much until the next start.
    """

    def __init__(self, root: Path, max_gb: float) -> None:
        self.root = root
        self.max_gb = max_gb
        self.may_delete = True  # False: only writes what fits beside the files that are there
        self._started: float | None = None  # time stamp of the first plan

    def plan(self, own: Collection[str], entry_bytes: int) -> Plan:
        """Keeps the files of `own` that are there for this run, and makes room for the others.

        One process calls this for all. Raises: OSError
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock") as lock:
            if self._started is None:
                os.utime(lock.lock_file)
                self._started = os.stat(lock.lock_file).st_mtime  # by the clock of the disk, as all stamps
            present = _present(self.root)
            # The time stamp of a file is its last use.
            for name in present.keys() & set(own):
                with suppress(FileNotFoundError):
                    os.utime(self.root / name)
            missing = sorted(set(own) - present.keys())
            random.Random(os.getpid()).shuffle(missing)  # two runs that begin together help each other
            # As many of the missing as fit; the others are encoded each time.
            deletable = present.items() if self.may_delete else ()
            unused = {name: file for name, file in deletable if name not in own and file[0] < self._started}
            used_bytes = sum(size for _, size in present.values())
            room = self._make_room(unused, self.max_gb * 1e9 - used_bytes, len(missing) * entry_bytes)
            fitting = missing[: int(max(0.0, room) // entry_bytes)]
        if len(fitting) < len(missing):
            log.warning(
                "cache.max_gb=%g has room for %d of %d new embeddings (%.1f MB each); a batch that holds one of the "
                "other images is encoded each time it is needed",
                *(self.max_gb, len(fitting), len(missing), entry_bytes / 1e6),
            )
        return Plan(set(own) - set(missing[len(fitting) :]), fitting)

    def _make_room(self, unused: dict[str, tuple[float, int]], room: float, wanted: int) -> float:
        """Deletes the least recently used files until `wanted` bytes fit, if they can; → bytes there is room for."""
        for name, (_, size) in sorted(unused.items(), key=lambda entry: entry[1]):  # oldest first
            if room >= wanted or not wanted:
                break
            (self.root / name).unlink(missing_ok=True)
            room += size
        return room


def _present(root: Path) -> dict[str, tuple[float, int]]:
    """Name → (last use, bytes) of all embeddings of all encoders; removes half-written files of dead runs."""
    found = {}
    remove_leftovers(root)
    # Not through a link: files elsewhere belong to others.
    for folder in [entry for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]:
        with suppress(FileNotFoundError):  # someone has deleted the folder
            for file in os.scandir(folder.path):
                with suppress(FileNotFoundError):  # another run has finished or deleted the file
                    if not file.is_file(follow_symlinks=False):  # a folder or a link in the place of a file
                        continue
                    status = file.stat()
                    if file.name.endswith(SUFFIX):
                        found[f"{folder.name}/{file.name}"] = (status.st_mtime, status.st_size)
                    else:
                        old = time.time() - status.st_mtime > ABANDONED
                        remove_leftover(Path(file.path), alone=old)
    return found
