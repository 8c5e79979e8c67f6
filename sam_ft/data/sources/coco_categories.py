"""The categories of a COCO file: those that are objects, and a label for each name."""

import json
import mmap
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import DataError

LONGEST_CATEGORIES = 2**22  # bytes that `peek_categories` reads


def read_categories(file: Path, entries: list) -> dict[int, str]:
    """{id: name}; ids may be texts, and have gaps. Raises: DataError about the first invalid or repeated category."""
    known: dict[int, str] = {}
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        key = int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,10}", key) else key
        if type(key) is not int or key in known or not 0 <= key < 2**31 or not isinstance(entry.get("name"), str):
            raise DataError(f"{file}: has the category {entry}; expected a unique integer id and a name for each")
        known[key] = entry["name"]
    return known


def select_categories(file: Path, known: dict[int, str], names: Sequence[str | int] | None) -> dict[int, str]:
    """{id: name} of the categories in `names`, or of all. Raises: DataError about names that the file lacks."""
    if names is None:
        return known
    wanted = [str(name) for name in names]  # digits are names too
    if unknown := [name for name in wanted if name not in known.values()]:
        raise DataError(
            f"{file}: has no category {join_names(unknown)}; it has {', '.join(known.values()) or 'none'}. Correct "
            "data.categories"
        )
    return {key: name for key, name in known.items() if name in wanted}


def label_categories(
    chosen: Mapping[int, str], label_of: dict[str, int] | None
) -> tuple[dict[int, int], dict[str, list[int]]]:
    """The label of each category id: one for each name, that of a file read before or the first id of this one.

    chosen: {id: name} · label_of: {name: label} of files read before; gets new names
    → {id: label}, and {name: ids} of names with several ids
    """
    label_of = {} if label_of is None else label_of
    ids: dict[str, list[int]] = {}
    for key, name in chosen.items():
        ids.setdefault(name, []).append(key)
        if name not in label_of:
            free = key not in label_of.values()
            label_of[name] = key if free else max(*label_of.values(), *chosen) + 1
    labels = {key: label_of[name] for key, name in chosen.items()}
    return labels, {name: keys for name, keys in ids.items() if len(keys) > 1}


def similar_names(names: Iterable[str]) -> list[str]:
    """The names that differ from another one only in case or in spaces."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    return [repr(name) for several in alike.values() if len(several) > 1 for name in several]


def peek_categories(file: Path) -> list:
    """The categories of a COCO file without the rest of it, which may be large; none where they are not found."""
    if not file.is_file():  # a pipe would never open
        return []
    try:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(b'"categories"')
            text = content[start : start + LONGEST_CATEGORIES].decode("utf-8", "replace") if start >= 0 else ""
        entries, _ = json.JSONDecoder().raw_decode(text.partition(":")[2].lstrip())
    except (OSError, ValueError, RecursionError):
        return []
    return entries if isinstance(entries, list) else []
