"""Proposes the settings that would pair the files of a folder, and says why other files are not read."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sam_ft.data.sources.folder_files import Files, find_files
from sam_ft.data.sources.layout import ARRAYS, SUFFIXES, Layout, stem_of, without_suffix
from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import DataError

MASK_WORD = re.compile(r"mask|label|seg|annot|truth|^gt|[_-]gt|instance", re.IGNORECASE)  # in names of folders, files
SCANNED = 10000  # files of a folder of an unknown layout
TRIED_AFFIXES = 4  # of each kind, the most frequent ones
REMEDIES = {  # of files that are not read, by suffix
    ".json": "LabelMe's are read by data=labelme, COCO's by data=coco",
    ".txt": "YOLO's are read by data=yolo",
    ".csv": "a table of images and masks is read by data=csv",
    ".npy": "an array is read as a mask alone; save images as PNG or TIFF",
    ".npz": "an array is read as a mask alone; save images as PNG or TIFF",
    ".nii": "save the slices of volumes as PNG or TIFF",
    ".gz": "save the slices of volumes as PNG or TIFF",
    ".dcm": "save them as 16-bit PNG or TIFF",
}


class Affixes(NamedTuple):
    """The text around the name that images and masks share; see `Layout`."""

    image_prefix: str = ""
    image_suffix: str = ""
    mask_prefix: str = ""
    mask_suffix: str = ""


def propose_layout(root: Path, layout: Layout) -> str:
    """The settings that pair most images, as "12 of 12 images pair with data.mask_suffix=_mask", or "".

    Only those that pair more images than the layout does.
    """
    best, before = None, _score(_files_or_none(root, layout))
    for base in _folders(root, layout):
        for candidate in (base, *_with_affixes(root, base)):
            files = _files_or_none(root, candidate)
            # Of equal ones the one with the fewest settings, without a wildcard, and with the whole suffix of .seg.v2.
            few = -len(candidate.settings(layout)) - ("*" in candidate.mask_suffix)
            rank = (*_score(files), few, len(candidate.mask_suffix))
            if files is not None and rank[0] > before[0] and (best is None or rank > best[0]):
                best = rank, f"{rank[0]} of {len(files.images)} images pair with {' '.join(candidate.settings(layout))}"
    return "" if best is None else best[1]


def unread_hints(unread: Mapping[Path, str]) -> list[str]:
    """One remedy for each kind of files that are not read."""
    folders = [path for path in unread if path.is_dir()]
    suffixes = Counter(path.suffix.lower() for path in unread if not path.is_dir())
    hints = []
    if folders:
        shown = join_names(sorted({path.name for path in folders}))
        hints.append(f"sub-folders are not read ({shown}); data.recursive=true reads them")
    for suffix, count in suffixes.most_common(3):
        remedy = REMEDIES.get(suffix, f"images are read from {', '.join(SUFFIXES)}")
        hints.append(f"{count} files of {suffix or 'no suffix'} are not read: {remedy}")
    return hints


def case_hint(files: Files) -> str:
    """The remedy for images and masks whose names differ only in upper and lower case, or ""."""
    images, masks = (
        {name.casefold(): name for name in side if name not in other}
        for side, other in ((files.images, files.masks), (files.masks, files.images))
    )
    alike = sorted(images.keys() & masks.keys())
    if not alike:
        return ""
    first = alike[0]
    return (
        f"{len(alike)} names differ only in upper and lower case, as {images[first]} and {masks[first]}; rename the "
        "images or the masks"
    )


def other_files(root: Path) -> list[str]:
    """The same for all files below a folder of an unknown layout."""
    found = (Path(top, name) for top, _, names in os.walk(root) for name in names if not name.startswith("."))
    own = (path for path in islice(found, SCANNED) if path.stem.lower() not in ("readme", "license"))
    return unread_hints({path: "" for path in own if path.suffix.lower() in REMEDIES})


def _score(files: Files | None) -> tuple[int, int]:
    """The number of images that pair, and that of masks, less those that do not."""
    if files is None:
        return 0, 0
    paired = files.pairs
    masks = sum(len(files.masks[name]) for name in paired)
    return len(paired), 2 * masks - sum(map(len, files.masks.values())) - len(files.images) + len(paired)


def _files_or_none(root: Path, layout: Layout) -> Files | None:
    try:
        return find_files(root, layout)
    except (DataError, OSError):
        return None


def _folders(root: Path, layout: Layout) -> Iterator[Layout]:
    """Other choices of folders, and of the way to read them."""
    yield layout
    yield replace(layout, recursive=True)
    yield replace(layout, pair_by="folder")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))[:20]
    for mask in filter(MASK_WORD.search, names):
        for image in (name for name in names if not MASK_WORD.search(name)):
            yield replace(layout, image_folder=image, mask_folder=mask)
            yield replace(layout, image_folder=image, mask_folder=mask, recursive=True)
    for folder in dict.fromkeys([layout.image_folder, ".", *names[:5]]):
        one = replace(layout, image_folder=folder, mask_folder=folder)
        yield from (one, replace(one, recursive=True), replace(one, pair_by="folder"))


def _with_affixes(root: Path, layout: Layout) -> Iterator[Layout]:
    """The layout with the affixes that the names of its files suggest."""
    if layout.pair_by == "folder" and not layout.one_folder:  # where no name decides
        return
    probe = Affixes(mask_suffix="?") if layout.one_folder else Affixes()  # no name ends so: all files are images
    files = _files_or_none(root, replace(layout, **probe._asdict()))
    if files is None:
        return
    if layout.pair_by == "folder":
        words = Counter(stem_of(path.name) for paths in files.images.values() for path in paths)
        yield from (replace(layout, mask_prefix=word) for word, _ in words.most_common(9) if MASK_WORD.search(word))
        return
    images, masks = sorted(files.images), sorted(files.images if layout.one_folder else files.masks)
    if layout.one_folder:
        arrays = [path.relative_to(root / layout.image_folder) for path in files.unread if path.suffix in ARRAYS]
        masks += [without_suffix(path.as_posix()) for path in arrays]
    found = [*_contained(images, masks), *_common(images, masks, layout.one_folder)]
    for affixes in dict.fromkeys(found):
        yield replace(layout, **affixes._asdict())


def _contained(images: list[str], masks: list[str]) -> list[Affixes]:
    """The text before or after the name of an image in the names of masks, the most frequent first."""
    known, counts = set(images), Counter[Affixes]()
    for mask in masks:
        folder, slash, stem = mask.rpartition("/")
        for cut in range(len(stem) - 1, 0, -1):
            if folder + slash + stem[:cut] in known:
                counts[Affixes(mask_suffix=_without_number(stem[cut:]))] += 1
                break
        for cut in range(1, len(stem)):
            if folder + slash + stem[cut:] in known:
                counts[Affixes(mask_prefix=stem[:cut])] += 1
                break
    return [affixes for affixes, _ in counts.most_common(TRIED_AFFIXES)]


def _without_number(text: str) -> str:
    """_mask_12 → _mask; a mere number may be any: _12 → _*"""
    cut = re.sub(r"[ _.-]*\(?\d+\)?$", "", text)
    return cut or re.sub(r"\d.*$", "*", text)


def _common(images: list[str], masks: list[str], one_folder: bool) -> Iterator[Affixes]:
    """Affixes of the names of images and of masks: those that all of them have, or in one folder the frequent ones."""
    image_stems, mask_stems = ([key.rpartition("/")[2] for key in keys] for keys in (images, masks))
    if not one_folder:
        yield _affixes_of_all(image_stems, mask_stems)
        return
    for place, end in ((r"^[^\W\d_]+[_.\- ]?", "prefix"), (r"[_.\- ]?[^\W\d_]+$", "suffix")):
        words = Counter(found[0] for stem in mask_stems if (found := re.search(place, stem)))
        frequent = [word for word, _ in words.most_common(TRIED_AFFIXES)]
        for mask in filter(MASK_WORD.search, frequent):
            for image in ("", *(word for word in frequent if not MASK_WORD.search(word))):
                yield Affixes(**{f"image_{end}": image, f"mask_{end}": mask})


def _affixes_of_all(images: list[str], masks: list[str]) -> Affixes:
    """frame_1, frame_2 and mask_1, mask_2 → frame_ and mask_: the text of all names of a side, where sides differ."""
    first, second = _common_start(images), _common_start(masks)
    last, end = _common_start(s[::-1] for s in images)[::-1], _common_start(s[::-1] for s in masks)[::-1]
    # The text that both sides have in common belongs to the name, but for a separator.
    same = _common_start([first[::-1], second[::-1]])[::-1].lstrip("_-. ")
    first, second = first.removesuffix(same), second.removesuffix(same)
    same = _common_start([last, end]).rstrip("_-. ")
    return Affixes(first, last.removeprefix(same), second, end.removeprefix(same))


def _common_start(texts: Iterable[str]) -> str:
    """The longest text with which all begin."""
    ordered = sorted(texts)
    if not ordered:
        return ""
    first, last = ordered[0], ordered[-1]
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
