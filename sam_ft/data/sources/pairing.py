"""Finds which files are an image and its mask, and which of them train: by name alone, nothing is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam_ft.data.sources.issues import Fault, listed
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.seeds import derive_seed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")


@dataclass(frozen=True)
class Item:
    """An image and its masks under one name; in a folder there is one mask, and the files' stem is the name.

    labels: one per mask, for all of its objects; empty where the masks say it themselves
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
    faults: list[Fault] | None = None,
) -> list[Item]:
    """Pairs the files of two folders by stem, sorted by name.

    only: pair these names and let all other files be; without it every file must have its partner.
    faults: takes what does not pair, and the others are paired; without it that is an error
    Raises: DataError that lists all missing, extra and ambiguous partners together.
    """
    images, masks = files_by_stem(root, image_folder), files_by_stem(root, mask_folder)
    names = sorted(images.keys() | masks.keys()) if only is None else sorted(only)
    problems = [
        (f"without a mask in {mask_folder}/", [n for n in names if n not in masks]),
        (f"without an image in {image_folder}/", [n for n in names if n not in images]),
        ("with several files of that name", [f.name for n in names for f in _doubles(images, masks, n)]),
        # the name becomes a seed, a line of a log, a cell of a table
        ("whose name is not valid UTF-8", [shown(n) for n in names if not _is_utf8(n)]),
    ]
    found = [f"{len(which)} {what}: {listed(which)}" for what, which in problems if which]
    if faults is not None:
        faults += _unpaired(root, image_folder, mask_folder, images, masks, names)
        names = [n for n in names if len(images.get(n, ())) == len(masks.get(n, ())) == 1 and _is_utf8(n)]
    elif found:
        raise DataError(
            f"{root}: images and masks do not pair up by name. " + "; ".join(found) + ". "
            "Each image needs one mask of the same name, whatever the suffix; rename, add or remove files"
        )
    if not names:
        raise DataError(f"{root / image_folder}: holds no images; expected files of {', '.join(SUFFIXES)}")
    return [Item(name, images[name][0], (masks[name][0],)) for name in names]


def _unpaired(
    root: Path,
    image_folder: str,
    mask_folder: str,
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    names: Sequence[str],
) -> list[Fault]:
    """What `find_pairs` would refuse, file by file."""
    faults = []
    sides = ((image_folder, images, "mask", mask_folder, masks), (mask_folder, masks, "image", image_folder, images))
    for folder, own, what, other_folder, others in sides:
        inside = str(root / folder)
        for name in names:
            files = [shown(file.name) for file in own.get(name, ())]
            if files and name not in others:
                advice = f"add one of the same name, whatever its suffix, to {other_folder}/, or take the file out"
                faults.append(Fault(inside, files[0], f"has no {what}", advice))
            if len(files) > 1:
                one = "several files have this name, and only one of them can be meant"
                faults += [Fault(inside, file, one, "rename or remove the others") for file in files]
            if files and not _is_utf8(name):
                faults.append(Fault(inside, files[0], "has a name that is not valid UTF-8", "rename it"))
        for path in sorted((root / folder).iterdir()):
            if not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES:
                what = "is a folder, and not looked into" if path.is_dir() else "is no image by its suffix, and let be"
                faults.append(Fault(inside, shown(path.name), what, level="note"))
    return faults


def files_by_stem(root: Path, folder: str) -> dict[str, list[Path]]:
    """The picture files right in a folder, hidden ones left out, by stem."""
    if not (root / folder).is_dir():
        there = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        raise DataError(
            f"{root}: has no folder {folder}/; the folders there are: {listed(there) or 'none'}. "
            "Name yours with data.image_folder and data.mask_folder"
        )
    files: dict[str, list[Path]] = {}
    for path in sorted((root / folder).iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            files.setdefault(path.stem, []).append(path)
    return files


def read_list(path: Path, known: set[str], faults: list[Fault] | None = None) -> list[str]:
    """The names in a text file, one a line, with or without suffix.

    faults: takes those that cannot be used, and the others are returned; without it they are an error
    Raises: DataError that lists the unknown and the repeated ones.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    names = [line if line in known or Path(line).suffix.lower() not in SUFFIXES else Path(line).stem for line in lines]
    unknown = [name for name in names if name not in known]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if faults is not None:
        missing, twice = "has neither an image nor a mask", "is there more than once"
        faults += [Fault(str(path), name, missing, "correct it, or take the line out", kind="name") for name in unknown]
        faults += [Fault(str(path), name, twice, "take the other lines out", kind="name") for name in repeated]
        names = [name for name in dict.fromkeys(names) if name in known]
    elif unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(names)} names have neither an image nor a mask: {listed(unknown)}; "
            "expected file names of the image folder, one a line"
        )
    elif repeated:
        raise DataError(f"{path}: {len(repeated)} names are there more than once: {listed(repeated)}")
    if not names:
        raise DataError(f"{path}: is empty; expected file names of the image folder, one a line")
    return names


def check_share(val_fraction: float) -> None:
    if not 0 < val_fraction <= 1:
        raise ConfigError(
            f"data.val_fraction={val_fraction}; expected a share above 0, such as 0.2, or 1 for a folder that is only "
            "to be scored"
        )


def drawn(items: Sequence[Item], split: str, val_fraction: float, seed: int, where: tuple[Path, str]) -> list[Item]:
    """The items of "train" or "val": a share drawn by a seeded hash of each name, so that new ones move no others.

    where: the file or folder, and how to choose oneself, for the error
    Raises: DataError when one side is left without any; with a share of 1 there is to be nothing but "val".
    """
    chosen = [item for item in items if (derive_seed(seed, item.name) < val_fraction * 2**63) == (split == "val")]
    if not chosen or (len(chosen) == len(items) and val_fraction < 1):
        side = split if not chosen else {"train": "val", "val": "train"}[split]
        root, choose = where
        raise DataError(
            f"{root}: data.val_fraction={val_fraction} leaves {side} without any of the {len(items)} images; change "
            f"data.val_fraction or data.seed, or {choose}"
        )
    return chosen


def _doubles(images: dict[str, list[Path]], masks: dict[str, list[Path]], name: str) -> list[Path]:
    both = (images.get(name, []), masks.get(name, []))
    return [file for files in both if len(files) > 1 for file in files]


def shown(name: str) -> str:
    """A name that can be printed, whatever its bytes are."""
    return name if _is_utf8(name) else ascii(name)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
