"""The project's cache folder, atomic writes, JSON and checksums."""

import codecs
import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from sam_ft.utils.disk import reason_of, write_error
from sam_ft.utils.errors import ConfigError, DataError, UserError
from sam_ft.utils.leftovers import held, temporary_beside
from sam_ft.utils.stand_ins import special_kind, stand_in

_UMASK = os.umask(0o077)  # the only way to read it is to set it
os.umask(_UMASK)


def home() -> Path:
    """The folder for downloads and generated data: $SAM_FT_HOME, or `sam-ft` in the user's cache directory."""
    folder = os.environ.get("SAM_FT_HOME") or platformdirs.user_cache_dir("sam-ft")
    return Path(folder).expanduser()


def unwritable_home(error: OSError, size: int | None = None) -> ConfigError:
    """size: of what is to be written"""
    reason = write_error(home(), error, size).strerror
    return ConfigError(f"SAM_FT_HOME={home()}: cannot be written ({reason}); set SAM_FT_HOME to another folder")


def refuse_links(folder: Path, *outputs: Path) -> None:
    """Refuses a link on the way from a folder to an output in it, which would put files elsewhere.

    An output that lies elsewhere anyway is left alone. Raises: ConfigError
    """
    for output in outputs:
        below = [output, *output.parents]
        if folder not in below:
            continue
        for path in below[: below.index(folder)]:
            if path.is_symlink():
                raise ConfigError(
                    f"{path}: is a link to {os.readlink(path)}, and nothing is written through a link in the directory "
                    "of a run; remove it, or choose another place for the output"
                )


def refuse_links_within(folder: Path, output: Path) -> None:
    """The same, also for what a folder of results holds already. Raises: ConfigError"""
    folder, output = folder.absolute(), output.absolute()
    refuse_links(folder, output)
    if folder in output.parents:
        refuse_links(folder, *(Path(top, name) for top, folders, files in os.walk(output) for name in folders + files))


def as_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON: nan and infinity, which JSON lacks, become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_text(path: Path) -> str:
    """A text file of any common encoding: UTF-16 and UTF-8 by their mark or their bytes, else Windows' cp1252.

    Raises: OSError; DataError for a pipe or a device, which may never end, and for a stand-in of a file, see `stand_in`
    """
    if not path.is_dir() and (kind := special_kind(path)) is not None:  # a folder is an OSError below
        raise DataError(f"{path}: is {kind}; expected a file")
    data = path.read_bytes()
    if data and (other := stand_in(data[:1024])) is not None:
        raise DataError(f"{path}: {other}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:1000]:  # every second byte of Latin letters in UTF-16 without a mark
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def expand_user(path: str | Path) -> Path:
    """The path with the home folder for `~`; a name such as ~cells, which is no user's, stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def atomic_path(
    path: str | Path, sync: bool = True, size: int | None = None, keep: Path | None = None
) -> Iterator[Path]:
    """Yields a temporary path beside `path`; if the block succeeds, the file written there replaces `path`.

    A reader sees the old file or the new one, never a part: the bytes are synced before the rename, and the
    folder after it. If the block raises, the temporary file is removed and the old one stays.

    sync: False is faster, but a power cut may leave an empty file; for files that can be recomputed and carry a
        checksum
    size: bytes of the file, for the message; None if they are not known
    keep: a name beside `path` for the file that was there before; between the two renames `path` is missing

    Raises:
        WriteError: the disk is full, or the place cannot be written.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(temporary):
            yield temporary
        with held(temporary):  # once more: some libraries write a file of their own and rename it
            temporary.chmod(0o666 & ~_UMASK)  # some writers create files that only their owner can read
            if sync:
                _sync(temporary)
            if keep is not None and path.is_file():
                os.replace(path, keep)
            os.replace(temporary, path)  # also where `path` exists, on every system
        if sync:
            _sync(path.parent)
    except UserError:
        raise
    except Exception as error:  # of the library that writes
        written = temporary.stat() if temporary.exists() else None
        reason = reason_of(error, temporary)
        if reason is None:
            raise
        done, freed = (written.st_size, getattr(written, "st_blocks", 0) * 512) if written else (0, 0)
        raise write_error(path, reason, size, done, freed) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: str | bytes, sync: bool = True) -> None:
    """Writes a text, as UTF-8, or bytes in one go. See `atomic_path`"""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, sync, len(data)) as temporary:
        temporary.write_bytes(data)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 digest of a file's bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
