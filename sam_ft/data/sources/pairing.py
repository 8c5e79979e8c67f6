"""Pairs images with masks and splits them by name; no file is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from sam_ft.data.sources.folder_files import Files, find_files
from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.layout import SUFFIXES, Layout
from sam_ft.data.sources.names import is_utf8, join_names, printable
from sam_ft.data.sources.proposals import case_hint, other_files, propose_layout, unread_hints
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.seeds import derive_seed


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample: an image and its masks.

    name: of the sample; in a folder the name that the image shares with its masks
    labels: one per mask, for all of its objects; empty where the masks hold the labels
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    labels: tuple[int, ...] = ()


def find_pairs(
    root: Path, layout: Layout, only: Sequence[str] | None = None, issues: list[Issue] | None = None
) -> list[SampleFiles]:
    """Pairs the images and masks below a folder, sorted by name.

    only: the names to pair; other files are not used. Without it every file needs its partner.
    issues: receives files that do not pair; without it they raise
    Raises: DataError that lists all missing, surplus and ambiguous partners together.
    """
    files = read_layout(root, layout)
    names = files.names if only is None else sorted(only)
    problems = [
        (f"without a mask in {layout.mask_folder}/", [n for n in names if n not in files.masks]),
        (f"without an image in {layout.image_folder}/", [n for n in names if n not in files.images]),
        ("with several files of that name", [file.name for n in names for file in files.ambiguous(n)]),
        # names become seeds, lines of a log and cells of a table
        ("whose name is not valid UTF-8", [printable(n) for n in names if not is_utf8(n)]),
    ]
    found = [f"{len(which)} {problem}: {join_names(which)}" for problem, which in problems if which]
    hints = "; ".join(_hints(root, layout, files)) if found or not names else ""
    if issues is not None:
        issues += _pairing_issues(root, layout, files, names)
        if hints:
            issues.insert(0, Issue(str(root), "", "images and masks do not pair up", hints, kind="data set"))
        pairs = set(files.pairs)
        names = [name for name in names if name in pairs and is_utf8(name)]
    elif found:
        raise DataError(
            f"{root}: images and masks do not pair up by name. {'; '.join(found)}. "
            + (f"{hints[0].upper()}{hints[1:]}. " if hints else "")
            + "Each image needs one mask of the same name, whatever the suffix; rename, add or remove files"
        )
    if not names and files.images:
        raise DataError(f"{root / layout.image_folder}: holds no image with a mask")
    if not names:
        advice = f"; {hints}" if hints and issues is None else ""
        raise DataError(
            f"{root / layout.image_folder}: holds no images; expected files of {', '.join(SUFFIXES)}{advice}"
        )
    return [SampleFiles(name, files.images[name][0], tuple(files.masks[name])) for name in names]


def read_layout(root: Path, layout: Layout) -> Files:
    """`find_files`, whose error also proposes another layout."""
    try:
        return find_files(root, layout)
    except DataError as error:
        proposal = propose_layout(root, layout)
        raise DataError("; ".join([str(error), *([proposal] if proposal else other_files(root))])) from None


def _hints(root: Path, layout: Layout, files: Files) -> list[str]:
    """The remedies for files that do not pair."""
    proposal = propose_layout(root, layout)
    unread = {path: why for path, why in files.unread.items() if not (proposal and path.is_dir())}
    return [*filter(None, (proposal, case_hint(files))), *unread_hints(unread)]


def _pairing_issues(root: Path, layout: Layout, files: Files, names: Sequence[str]) -> list[Issue]:
    """One issue for each file that `find_pairs` refuses, and a note for each file that it does not read."""
    issues = []
    # The same checks from both sides: each image needs a mask, each mask an image.
    sides = (
        (layout.image_folder, files.images, "mask", layout.mask_folder, files.masks),
        (layout.mask_folder, files.masks, "image", layout.image_folder, files.images),
    )
    for folder, own, partner, other_folder, others in sides:
        location = str(root / folder)
        for name in names:
            shown = [printable(file.name) for file in own.get(name, ())]
            if shown and name not in others:
                advice = f"add one of the same name, whatever its suffix, to {other_folder}/, or remove the file"
                issues.append(Issue(location, shown[0], f"has no {partner}", advice))
            problem = "several files have this name; expected one"
            clashing = [file for file in files.ambiguous(name) if file in own.get(name, ())]
            issues += [Issue(location, printable(f.name), problem, "rename or remove the others") for f in clashing]
            if shown and not is_utf8(name):
                issues.append(Issue(location, shown[0], "has a name that is not valid UTF-8", "rename it"))
    for path, problem in files.unread.items():
        issues.append(Issue(str(path.parent), printable(path.name), problem, level="note"))
    return issues


def check_val_fraction(val_fraction: float) -> None:
    """Raises: ConfigError for a fraction outside of (0, 1]."""
    if not 0 < val_fraction <= 1:
        raise ConfigError(
            f"data.val_fraction={val_fraction}; expected a fraction above 0, such as 0.2, or 1 for a folder that is "
            "only evaluated"
        )


class Named(Protocol):
    """A sample with a name."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


def split_by_hash(
    items: Sequence[Item], split: str, val_fraction: float, seed: int, where: tuple[Path, str]
) -> list[Item]:
    """The items of "train" or "val" by a seeded hash of each name, so new items move no others.

    Of two items or more each split gets at least one: that of the smallest hash for val, of the largest for train.

    where: the file or folder, and advice for choosing the split by hand, for the error
    Raises: DataError when a single item leaves one split empty; with a fraction of 1 only "val" must have items.
    """
    # The hash is uniform in [0, 2^63): below the fraction of it lies val.
    seeds = [derive_seed(seed, item.name) for item in items]
    count = sum(own < val_fraction * 2**63 for own in seeds)
    if val_fraction < 1 and len(items) > 1:
        count = min(max(count, 1), len(items) - 1)
    val = set(sorted(range(len(items)), key=seeds.__getitem__)[:count])
    chosen = [item for place, item in enumerate(items) if (place in val) == (split == "val")]
    if not chosen or (len(chosen) == len(items) and val_fraction < 1):
        empty = split if not chosen else {"train": "val", "val": "train"}[split]
        root, advice = where
        raise DataError(
            f"{root}: data.val_fraction={val_fraction} leaves {empty} without any of the {len(items)} images; change "
            f"data.val_fraction, add images, or {advice}"
        )
    return chosen
