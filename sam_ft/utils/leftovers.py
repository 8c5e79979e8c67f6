"""Temporary files: their names, and the removal of those that a killed process has left."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OTHER_NAME = re.compile(r"\.tmp[0-9A-Za-z]{6}$")  # of safetensors
_NAME = re.compile(r"\.tmp-(\d+)-[0-9a-f]{8}$")


def temporary_beside(path: Path) -> Path:
    """A new name beside `path`. A process id is not unique across machines, hence the random part."""
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Context in which `path` is a file or folder of a live process, as all processes on its disk can see.

    The lock ends with the process, however that ends.
    """
    if fcntl is None:
        yield
        return
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(*folders: Path, deep: bool = False, alone: bool = False) -> None:
    """Removes the temporary files and folders directly in `folders` whose process is gone.

    deep: also in the folders below · alone: no other process writes there, so those without its number are removed too
    """
    for folder in folders:
        for path in (folder.rglob if deep else folder.glob)("*.tmp*"):
            remove_leftover(path, alone)


def remove_leftover(path: Path, alone: bool = False) -> None:
    """The same for one path, if it is one."""
    match = _NAME.search(path.name)
    if alone and _OTHER_NAME.match(path.name) if match is None else not (_lives(int(match[1])) or _is_held(path)):
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _lives(process: int) -> bool:
    """Whether such a process runs here. Of the own number it may be one in another container: see `_is_held`."""
    if os.name == "nt":  # os.kill would end it there
        return True
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _is_held(path: Path) -> bool:
    """Whether a process holds it, perhaps in another container or on another machine."""
    try:
        descriptor = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # gone, a link, or of another user
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: the number of the process has decided
        return False
    finally:
        os.close(descriptor)
    return False
