"""Which file has which embedding: a side index, so that a start need not decode and hash images that it knows."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from sam_ft.utils.files import atomic_path

PREPROCESSING = "2"  # to be raised when an image would become other pixels or features than before
LARGEST = 64 * 2**20  # bytes, about 600,000 views; the older half is dropped beyond it


def index_entry(fingerprint: str, view: int, side: int) -> str:
    """The name in the index of one view of a file at one input side, see `data.io.fingerprint`."""
    return hashlib.blake2b(f"{PREPROCESSING}|{fingerprint}|{view}|{side}".encode(), digest_size=20).hexdigest()


class SideIndex:
    """A text file with a line for each view of an image: its entry and the key of its embedding.

    Losing it, or a line of it, costs time only. So a full disk is ignored, and a half line is skipped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, str]:
        """Entry -> key of all lines."""
        with suppress(OSError):
            lines = (line.split() for line in self._path.read_text(encoding="ascii", errors="replace").splitlines())
            return {words[0]: words[1] for words in lines if len(words) == 2 and len(words[1]) == 40}
        return {}

    def add(self, entries: Mapping[str, str]) -> None:
        if not entries:
            return
        lines = "".join(f"{entry} {key}\n" for entry, key in entries.items())
        with suppress(OSError), FileLock(self._path.with_suffix(".lock")):
            before = self._path.read_bytes().decode("ascii", "replace") if self._path.exists() else ""
            if before and not before.endswith("\n"):
                before += "\n"
            kept = before.splitlines(keepends=True)
            if len(before) + len(lines) > LARGEST:
                kept = kept[len(kept) // 2 :]
            with atomic_path(self._path, sync=False) as path:
                path.write_text("".join(kept) + lines, encoding="ascii", errors="replace")
