"""How the names of images and masks correspond."""

import os
import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import PurePosixPath

from sam_ft.data.io.arrays import ARRAYS
from sam_ft.utils.errors import ConfigError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MASK_SUFFIXES = (*SUFFIXES, *ARRAYS)
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

    def has_affixes(self, key: str) -> bool:
        """Whether a file of this path may be an image."""
        stem, (first, last) = stem_of(key), (nfc(self.image_prefix), nfc(self.image_suffix))
        return stem.startswith(first) and stem.endswith(last) and len(stem) >= len(first) + len(last)

    def fits_mask(self, key: str) -> bool:
        """Whether a file of this path may be a mask."""
        stem, first = stem_of(key), nfc(self.mask_prefix)
        cuts = range(len(first), len(stem) + 1)
        return stem.startswith(first) and any(self.mask_end.fullmatch(stem, cut) for cut in cuts)

    def is_mask(self, key: str, keys: Container[str]) -> bool:
        """Whether a file beside the images is a mask; a `*` fits too much, so there must be a file without it."""
        if not (self.mask_prefix or self.mask_suffix):
            return not self.has_affixes(key)
        return self.fits_mask(key) if "*" not in self.mask_suffix else self.name_of_mask(key, keys) != key

    def name_of_image(self, key: str) -> str:
        folder, slash, stem = without_suffix(key).rpartition("/")
        return folder + slash + stem.removeprefix(nfc(self.image_prefix)).removesuffix(nfc(self.image_suffix))

    def name_of_mask(self, key: str, images: Container[str]) -> str:
        """The longest name of an image that fits, else the mask's own, which is that of no image."""
        folder, slash, stem = without_suffix(key).rpartition("/")
        core = stem.removeprefix(nfc(self.mask_prefix))
        if core != stem or not self.mask_prefix:
            for cut in range(len(core), 0, -1):
                if (name := folder + slash + core[:cut]) in images and self.mask_end.fullmatch(core, cut):
                    return name
        return key if folder + slash + stem in images else folder + slash + stem


def nfc(text: str) -> str:
    """One form of letters with accents: macOS stores ü as u and a dot above (NFD), other systems as one (NFC)."""
    return unicodedata.normalize("NFC", text)


def stem_of(path: str) -> str:
    """A file's name without its suffix, also without .ome of .ome.tif, in NFC."""
    return nfc(re.sub(r"(?i)\.ome$", "", PurePosixPath(path).stem))


def folder_of(path: str) -> str:
    return nfc(path.rpartition("/")[0])


def without_suffix(path: str) -> str:
    return "/".join(filter(None, (folder_of(path), stem_of(path))))


def _option(name: str, value: object) -> str:
    text = f"data.{name}={str(value).lower() if isinstance(value, bool) else value}"
    return text if re.fullmatch(r"[\w=./-]+", text, re.ASCII) else f"'data.{name}=\"{value}\"'"
