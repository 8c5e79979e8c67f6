"""Finds the files that names written on other machines, or by other tools, stand for."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from unicodedata import normalize
from urllib.parse import unquote

from sam_ft.data.sources.layout import SUFFIXES


def locate(folder: Path, name: str) -> str | None:
    """The path below `folder` of the file that a name stands for, with "/", or None where there is none.

    The name itself comes first; then it is shortened from the left, until a file of that name is there. So Windows
    separators, full paths of another machine, ".." and URLs lead to a file of the folder, and never out of it.
    """
    if _is_inside(name) and is_file(folder / name):
        return name
    # Names of other systems may be of the other Unicode form, with ü as one character or as two.
    paths = [path for path in tails(name) if _is_inside(path)]
    others = [] if name.isascii() else [normalize(form, path) for form in ("NFC", "NFD") for path in paths]
    return next((path for path in [*paths, *others] if is_file(folder / path)), None)


def tails(name: str) -> list[str]:
    r"""The ends of a path or URL, longest first: r"C:\a\b.png" → ["a/b.png", "b.png"]."""
    if "://" in name or "?d=" in name:
        # Label Studio's local files: /data/local-files/?d=a/b.png
        name = name.partition("?d=")[2] or re.sub(r"^\w+://[^/]*|[?#].*$", "", name)
        name = unquote(name)
    parts = [part for part in re.split(r"[/\\]", re.sub(r"^[A-Za-z]:", "", name)) if part not in ("", ".")]
    # Below the last "..", since its folder is not known here.
    after = max((place + 1 for place, part in enumerate(parts) if part == ".."), default=0)
    return ["/".join(parts[first:]) for first in range(after, len(parts))]


def similar_file(folder: Path, name: str) -> Path | None:
    """An image whose name differs from the last part of a name only in its suffix, in case, or in %20 and the like."""
    wanted = _plain((tails(name) or [""])[-1])
    images = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES)
    return next((path for path in images if _plain(path.name) == wanted), None)


def _plain(name: str) -> str:
    return normalize("NFC", unquote(PurePosixPath(name).stem or name)).casefold()


def is_file(path: Path) -> bool:
    """Path.is_file raises on a name that is too long, or that holds a NUL."""
    return os.path.isfile(path)


def folders_below(root: Path, depth: int = 2) -> Iterable[Path]:
    """The folder and those below it, without hidden ones, the upper ones first."""
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [
            path
            for folder in level
            for path in sorted(folder.iterdir())
            if path.is_dir() and not path.name.startswith(".")
        ]


def _is_inside(path: str) -> bool:
    return not {"", ".", ".."} & {*path.split("/")}
