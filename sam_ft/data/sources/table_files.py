"""Finds the files that the cells of a table name."""

import os
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path

from sam_ft.data.sources.layout import SUFFIXES
from sam_ft.data.sources.locate import is_file, locate
from sam_ft.data.sources.names import MAX_LISTED
from sam_ft.utils.files import expand_user

MAX_DEPTH = 3  # folders below that of the table: stage1_train/ID/images
MAX_FILES = 500_000


class TableFiles:
    """The files of a table, by the cells that name them.

    A cell is a path relative to the table's folder, or one from another machine of which the end is there, or the name
    of an image in a folder below, with or without suffix, if no other folder has one of that name.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self._known: dict[str, Path] = {}

    def path(self, cell: str) -> Path:
        """The normalized path that a cell holds, of a file that may not be there."""
        if cell not in self._known:
            self._known[cell] = self._find(cell)
        return self._known[cell]

    def namesakes(self, cell: str) -> list[str]:
        """The images of that name, below the table's folder, if several have it."""
        found = [path.relative_to(self.table.parent).as_posix() for path in self._below.get(cell, [])]
        return found[:MAX_LISTED] if len(found) > 1 else []

    def _find(self, cell: str) -> Path:
        folder = self.table.parent
        given = Path(os.path.normpath(folder / expand_user(cell)))
        if not cell or is_file(given):
            return given
        if end := locate(folder, cell):
            return folder / end
        found = self._below.get(cell, [])
        # train.csv is the table of train/.
        own = [path for path in found if self.table.stem in path.relative_to(folder).parts]
        return own[0] if len(own) == 1 else found[0] if len(found) == 1 else given

    @cached_property
    def _below(self) -> dict[str, list[Path]]:
        """{name, also without suffix: images} in the folders below that of the table."""
        found: dict[str, list[Path]] = {}
        for path in islice(_files_below(self.table.parent), MAX_FILES):
            if path.name.lower().endswith(SUFFIXES):
                for key in {path.name, path.stem}:
                    found.setdefault(key, []).append(path)
        return found


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= MAX_DEPTH else sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in files)
