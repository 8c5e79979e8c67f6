"""The files of one encoder prefix, one for each image and view."""

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from sam_ft.cache.entry import is_entry, read_entry, write_entry
from sam_ft.cache.space import SUFFIX, Plan, Space
from sam_ft.types import Features

log = logging.getLogger("sam_ft")


class EntryFolder:
    """Entries by the keys of their images, in the folder `name` of a space that other folders share.

    entry_bytes: size of one file, about
    failure: why a file could not be written; from then on files are only read
    """

    def __init__(self, space: Space, name: str, entry_bytes: int) -> None:
        self._space = space
        self._name = name
        self._entry_bytes = entry_bytes
        self.failure: str | None = None

    def read(self, keys: Sequence[str]) -> Features | None:
        """The features of a batch of images; None if one of them is missing or damaged."""
        parts = []
        # A batch is read in full or not at all: it holds either features or pixels.
        for key in keys:
            features = read_entry(self._path(key))
            if features is None:
                return None
            parts.append(features.maps)
        return Features(tuple(torch.cat(same) for same in zip(*parts, strict=True)))

    def write(self, key: str, features: Features) -> None:
        """Writes the features of one image, B = 1."""
        try:
            write_entry(self._path(key), features)
        except OSError as error:
            self.give_up(error)

    def holds(self, key: str) -> bool:
        return is_entry(self._path(key))

    def lost(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that have no file; none of them if no file can be written."""
        return set(keys) - self._present() if keys and not self.failure else set()

    def plan(self, keys: Collection[str]) -> Plan:
        """The same as `Space.plan` for the files of these keys; if files cannot be written, it plans none."""
        if self._is_link():
            self.give_up(f"{self._name} is a link, through which nothing is written")
        if not self.failure:
            try:
                # The space knows files of all folders by their path below its root.
                key_of = {self._file(key): key for key in keys}
                kept, missing = self._space.plan(key_of.keys(), self._entry_bytes)
                blocked = {name for name in missing if _is_folder(self._space.root / name)}
                if blocked:
                    log.warning(
                        "%s: is a folder where an embedding belongs (%d of these); remove it, or its image is encoded "
                        "each time it is needed",
                        *(self._space.root / min(blocked), len(blocked)),
                    )
                return Plan(
                    {key_of[name] for name in kept if name not in blocked},
                    [key_of[name] for name in missing if name not in blocked],
                )
            except OSError as error:
                self.give_up(error)
        return Plan(set(keys) & self._present(), [])

    def _is_link(self) -> bool:
        """The whole cache may lie on another disk, but a link in its folder leads to files of others."""
        return (self._space.root / self._name).is_symlink()

    def _present(self) -> set[str]:
        if self._is_link():
            return set()
        try:
            files = os.scandir(self._space.root / self._name)
            return {file.name.removesuffix(SUFFIX) for file in files if file.is_file(follow_symlinks=False)}
        except OSError:  # no entry was written yet, or someone has deleted them
            return set()

    def give_up(self, failure: OSError | str) -> None:
        """Writes no more files, and warns of it once."""
        if isinstance(failure, OSError):
            failure = failure.strerror or str(failure) or repr(failure)
        if not self.failure:
            log.warning(
                "embeddings can no longer be cached in %s (%s); images without one are encoded each time they are "
                "needed, which is slower. Make room, or set SAM_FT_HOME to a folder on another disk",
                *(self._space.root, failure),
            )
            self.failure = failure

    def _file(self, key: str) -> str:
        return f"{self._name}/{key}{SUFFIX}"

    def _path(self, key: str) -> Path:
        return self._space.root / self._file(key)


def _is_folder(path: Path) -> bool:
    """Not a link to one, which a new file replaces."""
    return path.is_dir() and not path.is_symlink()
