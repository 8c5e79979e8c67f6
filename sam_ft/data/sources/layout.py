"""Where the images and masks of a folder lie, and how their names correspond; no file is opened."""

import os
import re
import unicodedata
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path, PurePosixPath

from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import ConfigError, DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_SUFFIXES = (*SUFFIXES, ".npy", ".npz")
NUMBER = r"(?:[ _.-]*\(?\d+\)?)?"  # of one mask of several, after mask_suffix: _mask_1, _mask2, _mask (3)


@dataclass(frozen=True)
class Layout:
    """The options of `Folder` that decide which file is the mask of which image.

    image_prefix ... mask_suffix: around the name that an image and its masks share, before the suffix of the file; a
        `*` in mask_suffix is any text, and a number may follow a mask_suffix without it
    pair_by: "name", or "folder": one image, and as its masks all files of its own sub-folder
    recursive: also reads sub-folders; names then carry the path
    """

    image_folder: str = "images"
    mask_folder: str = "masks"
    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""
    pair_by: str = "name"
    recursive: bool = False

    def __post_init__(self) -> None:
        if self.pair_by not in ("name", "folder"):
            raise ConfigError(f"data.pair_by={self.pair_by} is not known; expected name or folder")

    @property
    def one_folder(self) -> bool:
        """Whether images and masks lie side by side."""
        return os.path.normpath(self.image_folder) == os.path.normpath(self.mask_folder)

    @cached_property
    def mask_end(self) -> re.Pattern[str]:
        """The text between the name that a mask shares with its image and the file's own suffix."""
        text = re.escape(nfc(self.mask_suffix)).replace(r"\*", ".*")
        return re.compile(text + NUMBER if self.mask_suffix and "*" not in self.mask_suffix else text)

    def settings(self, other: "Layout") -> list[str]:
        """The options in which this layout differs from another one, for the command line."""
        changed = [(one.name, getattr(self, one.name)) for one in fields(self)]
        return [_option(name, value) for name, value in changed if value != getattr(other, name)]


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
        files.images.setdefault((beside and _folder(key)) or _image_name(key, layout), []).append(path)
    for key, path in masks.items():
        name = (_folder(key) or _stem(key)) if by_folder else _name_of_mask(key, files.images, layout)
        files.masks.setdefault(name, []).append(path)
    return files


def _sides(root: Path, layout: Layout, unread: dict[Path, str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """{path below its folder, with the suffix: file} of all images, and of all masks."""
    if not layout.one_folder:
        sides = []
        for folder, suffixes in ((layout.image_folder, SUFFIXES), (layout.mask_folder, MASK_SUFFIXES)):
            other = layout.mask_folder if folder == layout.image_folder else layout.image_folder
            sides.append(dict(_walk(root, folder, layout, suffixes, unread, root / other)))
        images, masks = sides
        images = {key: path for key, path in images.items() if _has_affixes(key, layout)}
        if layout.pair_by == "folder":  # where no name decides
            masks = {key: path for key, path in masks.items() if _fits_mask(key, layout)}
        return images, masks
    if not (layout.mask_prefix or layout.mask_suffix or layout.image_prefix or layout.image_suffix):
        raise DataError(
            f"{root / layout.image_folder}: is the folder of the images and of the masks, so each file would be its "
            "own mask; name two folders with data.image_folder and data.mask_folder, or give the end of the masks' "
            "names, as data.mask_suffix=_mask"
        )
    found = dict(_walk(root, layout.image_folder, layout, MASK_SUFFIXES, unread, None))
    keys = {_stem(key) for key in found}
    masks = {key: path for key, path in found.items() if _is_mask(key, keys, layout)}
    images = {
        key: path
        for key, path in found.items()
        if key not in masks and _has_affixes(key, layout) and path.suffix.lower() in SUFFIXES
    }
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
    with os.scandir(top) as entries:
        found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
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


def _missing_folder(root: Path, folder: str) -> DataError:
    existing = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if root.name == folder:
        return DataError(f"{root}: has no folder {folder}/; give the folder above it: data.root={root.parent}")
    return DataError(
        f"{root}: has no folder {folder}/; the folders there are: {join_names(existing) or 'none'}. "
        "Name yours with data.image_folder and data.mask_folder"
    )


def nfc(text: str) -> str:
    """One form of letters with accents: macOS stores ü as u and a dot above (NFD), other systems as one (NFC)."""
    return unicodedata.normalize("NFC", text)


def stem_of(name: str) -> str:
    """A file's name without its suffix, also without .ome of .ome.tif, in NFC."""
    return nfc(re.sub(r"(?i)\.ome$", "", PurePosixPath(name).stem))


def _stem(key: str) -> str:
    """The path below the folder, without suffix."""
    return "/".join([*map(nfc, key.split("/")[:-1]), stem_of(key.split("/")[-1])])


def _folder(key: str) -> str:
    return nfc(key.rpartition("/")[0])


def _has_affixes(key: str, layout: Layout) -> bool:
    stem, (first, last) = _stem(key).rpartition("/")[2], (nfc(layout.image_prefix), nfc(layout.image_suffix))
    return stem.startswith(first) and stem.endswith(last) and len(stem) >= len(first) + len(last)


def _image_name(key: str, layout: Layout) -> str:
    folder, slash, stem = _stem(key).rpartition("/")
    return folder + slash + stem.removeprefix(nfc(layout.image_prefix)).removesuffix(nfc(layout.image_suffix))


def _is_mask(key: str, keys: set[str], layout: Layout) -> bool:
    """Whether a file beside the images is a mask; a `*` fits too much, so there must be a file without it."""
    if not (layout.mask_prefix or layout.mask_suffix):
        return not _has_affixes(key, layout)
    if "*" not in layout.mask_suffix:
        return _fits_mask(key, layout)
    return _stem(key) != _name_of_mask(key, keys - {_stem(key)}, layout)


def _fits_mask(key: str, layout: Layout) -> bool:
    stem, first = _stem(key).rpartition("/")[2], nfc(layout.mask_prefix)
    cuts = range(len(first), len(stem) + 1)
    return stem.startswith(first) and any(layout.mask_end.fullmatch(stem, cut) for cut in cuts)


def _name_of_mask(key: str, images: Container[str], layout: Layout) -> str:
    """The longest name of an image that fits, else the mask's own, which is that of no image."""
    folder, slash, stem = _stem(key).rpartition("/")
    core = stem.removeprefix(nfc(layout.mask_prefix))
    if core != stem or not layout.mask_prefix:
        for cut in range(len(core), 0, -1):
            if (name := folder + slash + core[:cut]) in images and layout.mask_end.fullmatch(core, cut):
                return name
    return key if folder + slash + stem in images else folder + slash + stem


def _folders_below(root: Path) -> list[Path]:
    """All sub-folders of any depth, sorted, without hidden ones."""
    found = []
    for top, names, _ in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [Path(top, name) for name in names]
    return sorted(found)


def _option(name: str, value: object) -> str:
    text = f"data.{name}={str(value).lower() if isinstance(value, bool) else value}"
    return text if re.fullmatch(r"[\w=./-]+", text, re.ASCII) else f"'data.{name}=\"{value}\"'"
