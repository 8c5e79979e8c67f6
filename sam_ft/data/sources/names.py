"""Names of files as text: printable, shortened lists, unique stems."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

MAX_LISTED = 10  # names of each kind that a message lists


def is_utf8(name: str) -> bool:
    """Whether a name can be encoded; Python reads other bytes of file names as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def printable(name: str) -> str:
    """The name, escaped where it is not valid UTF-8."""
    return name if is_utf8(name) else ascii(name)


def join_names(names: Sequence[str]) -> str:
    """The first names, separated by commas, and the number of the others."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def unique_names(files: Sequence[str]) -> list[str]:
    """A unique name for each of several different files: the stem, else the path without suffix, else the path."""
    choices = []
    for file in files:
        path = PurePosixPath(file)
        choices.append(list(dict.fromkeys((path.stem, str(path.with_suffix("")), file))))
    counts = Counter(choice for several in choices for choice in several)
    return [next((c for c in several if counts[c] == 1), file) for several, file in zip(choices, files, strict=True)]
