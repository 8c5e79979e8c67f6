"""Pairs images with masks and splits them by name; no file is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.names import is_utf8, join_names, printable
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.seeds import derive_seed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample: an image and its masks.

    name: of the sample; in a folder the stem of both files, with one mask per image
    labels: one per mask, for all of its objects; empty where the masks hold the labels
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    labels: tuple[int, ...] = ()


def find_pairs(
    root: Path,
    image_folder: str,
    mask_folder: str,
    only: Sequence[str] | None = None,
    issues: list[Issue] | None = None,
) -> list[SampleFiles]:
    """Pairs the files of two folders by stem, sorted by name.

    only: the names to pair; other files are not used. Without it every file needs its partner.
    issues: receives files that do not pair; without it they raise
    Raises: DataError that lists all missing, surplus and ambiguous partners together.
    """
    images, masks = files_by_stem(root, image_folder), files_by_stem(root, mask_folder)
    # Sorted, so that positions are the same on every machine.
    names = sorted(images.keys() | masks.keys()) if only is None else sorted(only)
    problems = [
        (f"without a mask in {mask_folder}/", [n for n in names if n not in masks]),
        (f"without an image in {image_folder}/", [n for n in names if n not in images]),
        ("with several files of that name", [f.name for n in names for f in _ambiguous(images, masks, n)]),
        # names become seeds, lines of a log and cells of a table
        ("whose name is not valid UTF-8", [printable(n) for n in names if not is_utf8(n)]),
    ]
    found = [f"{len(which)} {problem}: {join_names(which)}" for problem, which in problems if which]
    if issues is not None:
        issues += _pairing_issues(root, image_folder, mask_folder, images, masks, names)
        names = [n for n in names if len(images.get(n, ())) == len(masks.get(n, ())) == 1 and is_utf8(n)]
    elif found:
        raise DataError(
            f"{root}: images and masks do not pair up by name. " + "; ".join(found) + ". "
            "Each image needs one mask of the same name, whatever the suffix; rename, add or remove files"
        )
    if not names:
        raise DataError(f"{root / image_folder}: holds no images; expected files of {', '.join(SUFFIXES)}")
    return [SampleFiles(name, images[name][0], (masks[name][0],)) for name in names]


def _pairing_issues(
    root: Path,
    image_folder: str,
    mask_folder: str,
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    names: Sequence[str],
) -> list[Issue]:
    """One issue for each file that `find_pairs` refuses, and a note for each file that it does not read."""
    issues = []
    # The same checks from both sides: each image needs a mask, each mask an image.
    sides = ((image_folder, images, "mask", mask_folder, masks), (mask_folder, masks, "image", image_folder, images))
    for folder, own, partner, other_folder, others in sides:
        location = str(root / folder)
        for name in names:
            files = [printable(file.name) for file in own.get(name, ())]
            if files and name not in others:
                advice = f"add one of the same name, whatever its suffix, to {other_folder}/, or remove the file"
                issues.append(Issue(location, files[0], f"has no {partner}", advice))
            if len(files) > 1:
                problem = "several files have this name; expected one"
                issues += [Issue(location, file, problem, "rename or remove the others") for file in files]
            if files and not is_utf8(name):
                issues.append(Issue(location, files[0], "has a name that is not valid UTF-8", "rename it"))
        for path in sorted((root / folder).iterdir()):
            if not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES:
                problem = (
                    "is a folder, and is not read" if path.is_dir() else "is no image by its suffix, and is not read"
                )
                issues.append(Issue(location, printable(path.name), problem, level="note"))
    return issues


def files_by_stem(root: Path, folder: str) -> dict[str, list[Path]]:
    """{stem: image files} directly in a folder, without hidden files."""
    if not (root / folder).is_dir():
        existing = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if root.name == folder:
            raise DataError(f"{root}: has no folder {folder}/; give the folder above it: data.root={root.parent}")
        raise DataError(
            f"{root}: has no folder {folder}/; the folders there are: {join_names(existing) or 'none'}. "
            "Name yours with data.image_folder and data.mask_folder"
        )
    files: dict[str, list[Path]] = {}
    for path in sorted((root / folder).iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files


def read_list(path: Path, known: set[str], issues: list[Issue] | None = None) -> list[str]:
    """The names in a text file, one per line, with or without suffix.

    issues: receives names that cannot be used; without it they raise
    Raises: DataError that lists the unknown and the repeated names.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    # A suffix is cut only from names that are unknown with it: stems may hold a dot.
    names = [line if line in known or Path(line).suffix.lower() not in SUFFIXES else Path(line).stem for line in lines]
    unknown = [name for name in names if name not in known]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if issues is not None:
        missing, twice = "has neither an image nor a mask", "is listed more than once"
        issues += [Issue(str(path), name, missing, "correct or remove the line", kind="name") for name in unknown]
        issues += [Issue(str(path), name, twice, "remove the other lines", kind="name") for name in repeated]
        names = [name for name in dict.fromkeys(names) if name in known]
    elif unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(names)} names have neither an image nor a mask: {join_names(unknown)}; "
            "expected file names of the image folder, one per line"
        )
    elif repeated:
        raise DataError(
            f"{path}: {len(repeated)} names are listed more than once: {join_names(repeated)}; remove the other lines"
        )
    if not names:
        raise DataError(f"{path}: is empty; expected file names of the image folder, one per line")
    return names


def check_val_fraction(val_fraction: float) -> None:
    """Raises: ConfigError for a fraction outside of (0, 1]."""
    if not 0 < val_fraction <= 1:
        raise ConfigError(
            f"data.val_fraction={val_fraction}; expected a fraction above 0, such as 0.2, or 1 for a folder that is "
            "only evaluated"
        )


def split_by_hash(
    items: Sequence[SampleFiles], split: str, val_fraction: float, seed: int, where: tuple[Path, str]
) -> list[SampleFiles]:
    """The items of "train" or "val" by a seeded hash of each name, so new items move no others.

    where: the file or folder, and advice for choosing the split by hand, for the error
    Raises: DataError when one split is empty; with a fraction of 1 only "val" must have items.
    """
    # The hash is uniform in [0, 2^63): below the fraction of it lies val.
    chosen = [item for item in items if (derive_seed(seed, item.name) < val_fraction * 2**63) == (split == "val")]
    if not chosen or (len(chosen) == len(items) and val_fraction < 1):
        empty = split if not chosen else {"train": "val", "val": "train"}[split]
        root, advice = where
        raise DataError(
            f"{root}: data.val_fraction={val_fraction} leaves {empty} without any of the {len(items)} images; change "
            f"data.val_fraction or data.seed, or {advice}"
        )
    return chosen


def _ambiguous(images: dict[str, list[Path]], masks: dict[str, list[Path]], name: str) -> list[Path]:
    both = (images.get(name, []), masks.get(name, []))
    return [file for files in both if len(files) > 1 for file in files]
