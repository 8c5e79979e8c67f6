"""A file that cannot be written: the disk is full, or the place is not open to this user."""

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_ft.utils.errors import ConfigError

log = logging.getLogger("sam_ft")

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
NO_ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM}
PROBE_BYTES = 1 << 16


class WriteError(ConfigError, OSError):
    """A user's mistake where the file is needed, and an OSError where a run can go on without it."""

    def __str__(self) -> str:  # without the number, which an OSError puts first
        return str(self.args[0])


class OptionalFiles:
    """Files without which a run goes on. The first write that fails is one warning, and later ones are tried too.

    consequence: what such a run lacks, for the warning
    """

    def __init__(self, consequence: str) -> None:
        self._consequence = consequence
        self._warned = False

    def write(self, path: Path, write: Callable[[], None]) -> bool:
        """Calls `write`; → whether it has succeeded."""
        try:
            write()
        except OSError as error:
            if not self._warned:
                log.warning("%s: cannot be written (%s); %s", path, error.strerror, self._consequence)
            self._warned = True
            return False
        return True


@contextmanager
def writing(path: Path, size: int | None = None, at_least: int = 0) -> Iterator[None]:
    """Context in which a file or a folder is written.

    size: of the file, None if it is not known · at_least: that it has in any case

    Raises:
        WriteError: naming the path and the reason; with no room also the bytes that are needed and free.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise write_error(path, error, size, at_least) from error


def write_error(path: Path, error: OSError, size: int | None = None, at_least: int = 0, freed: int = 0) -> WriteError:
    """The same as an error to raise. freed: bytes of a part of the file, which will be removed"""
    reason, advice = error.strerror or str(error) or type(error).__name__, "choose another place"
    if error.errno in NO_ROOM:
        needed = f"more than {at_least:,}" if size is None else f"{size:,}"
        reason += f": {needed} bytes needed, {_free_bytes(path) + freed:,} bytes free"
        advice = "make room, or choose another place"
        if error.errno == errno.EFBIG:
            reason += f", a file may have {_largest_file()} bytes"
            advice = "raise the limit (ulimit -f), or choose another place"
    failure = WriteError(f"{path}: cannot be written ({reason}); {advice}")
    failure.errno, failure.strerror = error.errno, reason
    return failure


def reason_of(error: Exception, part: Path) -> OSError | None:
    """The OSError behind any error of a program that was writing `part`; None if there is none.

    Other libraries turn it into errors of their own, or into an OSError without a number.
    """
    if isinstance(error, OSError) and error.errno:
        # with the name of another file it is one that was read
        own = error.filename is None or Path(error.filename) in (part, *part.parents)
        return error if own else None
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust writes it
        return OSError(int(number[1]), os.strerror(int(number[1])))
    try:  # a disk that is full still is
        with open(part, "ab") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        return reason
    return None


def _free_bytes(path: Path) -> int:
    folder = next(folder for folder in (*path.absolute().parents,) if folder.is_dir())
    return shutil.disk_usage(folder).free


def _largest_file() -> str:
    import resource  # not on Windows, where no such limit exists

    return f"{resource.getrlimit(resource.RLIMIT_FSIZE)[0]:,}"
