"""Which file has which embedding: a side index, so that a start need not decode and hash images that it knows."""

import hashlib
import os
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from sam_ft.cache.entry import is_entry
from sam_ft.utils.files import write_atomic

PREPROCESSING = "2"  # to be raised when an image would become other pixels or features than before
LARGEST = 64 * 2**20  # bytes, about 700,000 views; the older half is dropped beyond it


def view_id(fingerprint: str, view: int, side: int) -> str:
    """Stands for one view of a file at one input side, see `data.io.fingerprint`."""
    return hashlib.blake2b(f"{PREPROCESSING}|{fingerprint}|{view}|{side}".encode(), digest_size=20).hexdigest()


class SideIndex:
    """A text file with a line for each view of an image: its id, the key of its embedding, and a checksum.

    Losing it, or a line of it, costs time only. So a full disk is ignored, and a damaged line is skipped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, ids: Collection[str]) -> dict[str, str]:
        """Id → key of those that the index has; the last line of an id counts."""
        found: dict[str, str] = {}
        if not is_entry(self._path):
            return found
        wanted = set(ids)
        with suppress(OSError), open(self._path, encoding="ascii", errors="replace") as file:
            # A larger one was not written by `add`.
            if os.fstat(file.fileno()).st_size <= LARGEST:
                for line in file:
                    # 40 hex digits each, a space between; the whole line is compared, so its checksum must fit.
                    if line[:40] in wanted and line == _line(line[:40], line[41:81]):
                        found[line[:40]] = line[41:81]
        return found

    def add(self, keys: Mapping[str, str]) -> None:
        """Appends lines of id → key, and drops the older half of a file that grows too large.

        A link, a pipe or a folder in its place stays as it is.
        """
        if not keys or (os.path.lexists(self._path) and not is_entry(self._path)):
            return
        # The first line break ends a line that an interrupted run has left.
        lines = ("\n" + "".join(_line(*both) for both in keys.items())).encode("ascii")
        with suppress(OSError), FileLock(self._path.with_suffix(".lock")):
            with open(self._path, "ab") as file:
                file.write(lines)
                size = file.tell()
            if size > LARGEST:
                with open(self._path, "rb") as file:
                    # It may begin within a line, whose checksum then fails.
                    file.seek(size - LARGEST // 2)
                    newest = file.read()
                write_atomic(self._path, newest, sync=False)


def _line(view_id: str, key: str) -> str:
    return f"{view_id} {key} {zlib.crc32((view_id + key).encode()):08x}\n"
