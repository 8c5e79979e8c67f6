"""Finds the images and masks of a folder and pairs them by name; no file is opened."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sam_ft.data.sources.layout import MASK_SUFFIXES, SUFFIXES, Layout, folder_of, stem_of, without_suffix
from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import DataError

SPLIT_WORD = re.compile("train|val|test|dev", re.IGNORECASE)  # in the names of splits


@dataclass
class Files:
    """The files of a layout by the names of their samples.

    A mask that fits no image has a name of its own. unread: other files in the folders, with the reason
    """

    images: dict[str, list[Path]] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Sorted, so that positions are the same on every machine."""
        return sorted(self.images.keys() | self.masks.keys())

    @property
    def pairs(self) -> list[str]:
        """The names with one image and masks that cannot be confused."""
        return [name for name in self.names if name in self.images and name in self.masks and not self.ambiguous(name)]

    def ambiguous(self, name: str) -> list[Path]:
        """The files of a name that has several images, or several masks that differ in nothing but the suffix."""
        images, masks = self.images.get(name, []), self.masks.get(name, [])
        keys = [(mask.parent, stem_of(mask.name)) for mask in masks]
        same = [mask for mask, key in zip(masks, keys, strict=True) if keys.count(key) > 1]
        return [*(images if len(images) > 1 else []), *same]


def find_files(root: Path, layout: Layout) -> Files:
    """The images and masks below a folder, paired by name.

    Raises: DataError when a folder is missing, or images and masks cannot be told apart.
    """
    files = Files()
    images, masks = _sides(root, layout, files.unread)
    by_folder = layout.pair_by == "folder"
    # The masks of images/NAME.png lie in masks/NAME/, those of NAME/images/ in NAME/masks/.
    beside = by_folder and (layout.one_folder or not (root / layout.image_folder).is_dir())
    for key, path in images.items():
        files.images.setdefault((beside and folder_of(key)) or layout.name_of_image(key), []).append(path)
    for key, path in masks.items():
        name = (folder_of(key) or without_suffix(key)) if by_folder else layout.name_of_mask(key, files.images)
        files.masks.setdefault(name, []).append(path)
    return files


def _sides(root: Path, layout: Layout, unread: dict[Path, str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """{path below its folder, with the suffix: file} of all images, and of all masks."""
    if layout.one_folder:
        images, masks = _side_by_side(root, layout, unread)
    else:
        tops = root / layout.image_folder, root / layout.mask_folder
        if all(map(Path.is_dir, tops)) and tops[0].samefile(tops[1]):  # by a link
            raise _one_folder(tops[0])
        images, masks = (
            dict(_walk(root, folder, layout, suffixes, unread, root / other))
            for folder, suffixes, other in (
                (layout.image_folder, SUFFIXES, layout.mask_folder),
                (layout.mask_folder, MASK_SUFFIXES, layout.image_folder),
            )
        )
    left = [images.pop(key) for key in [*images] if not layout.has_affixes(key)]
    if layout.pair_by == "folder":  # where the name of a mask decides nothing else
        left += [masks.pop(key) for key in [*masks] if not layout.fits_mask(key)]
    unread.update(dict.fromkeys(left, "does not have the prefix and suffix of the settings, and is not read"))
    return images, masks


def _side_by_side(root: Path, layout: Layout, unread: dict[Path, str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """The same of a folder of images and masks. Raises: DataError when the layout does not tell them apart."""
    if not (layout.mask_prefix or layout.mask_suffix or layout.image_prefix or layout.image_suffix):
        raise _one_folder(root / layout.image_folder)
    found = dict(_walk(root, layout.image_folder, layout, MASK_SUFFIXES, unread, None))
    keys = {without_suffix(key) for key in found}
    masks = {key: path for key, path in found.items() if layout.is_mask(key, keys)}
    others = {key: path for key, path in found.items() if key not in masks}
    images = {key: path for key, path in others.items() if path.suffix.lower() in SUFFIXES}
    unread.update({path: "is an array, and no mask by its name" for key, path in others.items() if key not in images})
    return images, masks


def _walk(
    root: Path, folder: str, layout: Layout, suffixes: tuple[str, ...], unread: dict[Path, str], other: Path | None
) -> Iterator[tuple[str, Path]]:
    """The files with these suffixes in a folder, sorted, each with its path below the folder.

    unread: receives the others, and folders that are not entered · other: a folder that is not entered

    The folder may lie in sub-folders, as PATIENT/images, if those are read; the paths then begin with PATIENT.
    """
    deep, top = layout.recursive or layout.pair_by == "folder", root / folder
    if top.is_dir():
        yield from _walk_from(top, "", deep, suffixes, unread, other)
        return
    depth = len(Path(folder).parts)
    tops = [path for path in _folders_below(root) if path.parts[-depth:] == Path(folder).parts] if deep else []
    if not tops:
        raise _missing_folder(root, folder)
    for top in tops:
        above = top.relative_to(root).parts[:-depth]
        yield from _walk_from(top, "/".join(above), deep, suffixes, unread, other)


def _walk_from(
    top: Path,
    key: str,
    deep: bool,
    suffixes: tuple[str, ...],
    unread: dict[Path, str],
    other: Path | None,
    seen: frozenset[str] = frozenset(),
) -> Iterator[tuple[str, Path]]:
    seen = seen | {os.path.realpath(top)}  # a link may lead back up
    try:
        with os.scandir(top) as entries:
            found = sorted((entry.name, _leads_to_folder(entry)) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{top}: cannot be read ({error.strerror}); make it readable, or remove it") from None
    for name, is_folder in found:
        path, own = top / name, f"{key}/{name}".lstrip("/")
        if is_folder and not deep:
            unread[path] = "is a folder, and is not read"
        elif is_folder and path != other and os.path.realpath(path) not in seen:
            yield from _walk_from(path, own, deep, suffixes, unread, other, seen)
        elif not is_folder and path.suffix.lower() in suffixes:
            yield own, path
        elif not is_folder:
            unread[path] = "is no image by its suffix, and is not read"


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: a problem of the file
        return False


def _one_folder(folder: Path) -> DataError:
    return DataError(
        f"{folder}: is the folder of the images and of the masks, so each file would be its own mask; name two folders "
        "with data.image_folder and data.mask_folder, or give the end of the masks' names, as data.mask_suffix=_mask"
    )


def _missing_folder(root: Path, folder: str) -> DataError:
    existing = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if root.name == folder:
        return DataError(f"{root}: has no folder {folder}/; give the folder above it: data.root={root.parent}")
    splits = [name for name in existing if SPLIT_WORD.search(name)]
    hint = (
        f". Where {join_names(splits)} are of splits, expected train/{folder}/ and val/{folder}/" if splits[1:] else ""
    )
    return DataError(
        f"{root}: has no folder {folder}/; the folders there are: {join_names(existing) or 'none'}. "
        f"Name yours with data.image_folder and data.mask_folder{hint}"
    )


def _folders_below(root: Path) -> list[Path]:
    """All sub-folders of any depth, sorted, without hidden ones."""
    found = []
    for top, names, _ in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(top, name) for name in names]
    return sorted(found)
