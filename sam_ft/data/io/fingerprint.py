"""A cheap stand-in for the content of a file."""

import time
from pathlib import Path

SETTLED = 2.0  # seconds; a younger file may be written again within the same time stamp


def fingerprint(path: Path, *reading: object) -> str | None:
    """Changes whenever the file is written, replaced or read in another way; None if that is unknown.

    reading: the settings that decide which pixels its bytes become

    Path, size and both time stamps of the file stand for its content: a copy that keeps the modification time still
    has a change time (ctime) of its own.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED:
        return None
    facts = (path.absolute(), status.st_size, status.st_mtime_ns, status.st_ctime_ns, *reading)
    return "|".join(map(str, facts))
