"""Names what lies in the place of a file: a pipe, a folder, or what a tool left that did not fetch it."""

import stat
from pathlib import Path

SPECIAL = [
    *((stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISDIR, "a folder"), (stat.S_ISSOCK, "a socket")),
    *((stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device")),
]
POINTERS = {b"version https://git-lfs": ("git-LFS", "git lfs pull"), b"/annex/objects/": ("git-annex", "git annex get")}
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


def stand_in(head: bytes) -> str | None:
    """Problem and remedy of a file with this beginning, or None where it may be the file itself."""
    if not head:
        return "is empty; fetch it again"
    for start, (tool, command) in POINTERS.items():
        if head.startswith(start):
            return f"is a {tool} pointer and not the file itself; run: {command}"
    if head.lstrip().lower().startswith(WEB_PAGE):
        return "is a web page, perhaps of a proxy or a login; fetch the file itself"
    return None


def special_kind(path: Path) -> str | None:
    """What a path leads to that is no file, which may wait for ever when it is opened, or None. Raises: OSError"""
    mode = path.stat().st_mode
    return None if stat.S_ISREG(mode) else next((kind for is_kind, kind in SPECIAL if is_kind(mode)), "no file")
