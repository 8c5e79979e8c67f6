"""Reads lists of images, such as train.txt."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sam_ft.data.sources.folder_files import Files
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.layout import SUFFIXES, nfc, stem_of
from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text


def names_in_lists(files: Files) -> dict[str, str]:
    """{name, or name of its image file: name of the sample}; `find_pairs` reports those that lack image or mask."""
    by_file = {}
    for name, images in files.images.items():
        folder = name.rpartition("/")[0]
        for text in (text for image in images for text in (nfc(image.name), stem_of(image.name))):
            by_file[f"{folder}/{text}" if folder else text] = name
    return {**by_file, **{name: name for name in files.names}}


def read_list(path: Path, known: Mapping[str, str], issues: list[Issue] | None = None) -> list[str]:
    """The names in a text file, one per line: names of samples, or paths of images, also of another machine.

    known: see `names_in_lists` · issues: receives names that cannot be used; without it they raise
    Raises: DataError that lists the unknown and the repeated names.
    """
    lines = [nfc(line.strip()) for line in read_text(path).splitlines() if line.strip()]
    found = [_known_name(line, known) for line in lines]
    names = [name for name in found if name is not None]
    unknown = [line for line, name in zip(lines, found, strict=True) if name is None]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if issues is not None:
        missing, twice = "has neither an image nor a mask", "is listed more than once"
        issues += [Issue(str(path), name, missing, "correct or remove the line", kind="name") for name in unknown]
        issues += [Issue(str(path), name, twice, "remove the other lines", kind="name") for name in repeated]
        names = list(dict.fromkeys(names))
    elif unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(lines)} names have neither an image nor a mask: {join_names(unknown)}; "
            "expected file names of the image folder, one per line"
        )
    elif repeated:
        raise DataError(
            f"{path}: {len(repeated)} names are listed more than once: {join_names(repeated)}; remove the other lines"
        )
    if not names:
        raise DataError(f"{path}: is empty; expected file names of the image folder, one per line")
    return names


def _known_name(line: str, known: Mapping[str, str]) -> str | None:
    """The name that a line means: all of it, or the end of a path, with or without suffix.

    Of a line with an image and its mask, the first of both counts.
    """
    for text in (line, re.split(r"[\s,;]", line)[0]):
        parts = text.replace("\\", "/").split("/")
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            if tail in known:
                return known[tail]
            # A suffix is cut only from names that are unknown with it: stems may hold a dot.
            stem = "/".join([*parts[start:-1], stem_of(parts[-1])])
            if parts[-1].lower().endswith(SUFFIXES) and stem in known:
                return known[stem]
    return None
