"""Finds the images, text files and class names of a data set of YOLO."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sam_ft.data.sources.folder import SPLITS
from sam_ft.data.sources.layout import SUFFIXES
from sam_ft.data.sources.locate import is_file, locate, tails
from sam_ft.data.sources.names import join_names
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

MAX_BYTES = 1_000_000
DESCRIPTIONS = ("data", "dataset")  # names of the YAML file
OUTLINE = re.compile(r"\s*\d+(\.0+)?([ \t]+[\d.eE+-]+){4,}")  # a line of a class and coordinates


def find_description(root: Path) -> Path | None:
    """data.yaml, or the only other YAML file of a folder, or None.

    Raises: DataError when data.yaml is in a folder below, to which its paths and the splits belong.
    """
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.name[0] != ".")
    named = [path for path in found if path.stem.lower() in DESCRIPTIONS]
    below = [path for one in DESCRIPTIONS for end in (".yaml", ".yml") for path in sorted(root.glob(f"*/{one}{end}"))]
    if below and not found:
        raise DataError(f"{below[0]}: describes the folder that it is in; set data.root to {below[0].parent}")
    return next(iter(named), found[0] if len(found) == 1 else None)


def load_description(file: Path) -> dict[str, Any]:
    """The content of data.yaml. Raises: DataError when it is none."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: is larger than {MAX_BYTES:,} bytes; expected the paths and names of classes")
        text = read_text(file)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise DataError(f"{file}: has an alias (*); write the values in its place")
        content = yaml.safe_load(text)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); name yours with data.yaml") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = str(error).split("\n")[0] if mark is None else f"line {mark.line + 1}: {getattr(error, 'problem', '')}"
        raise DataError(f"{file}: cannot be read ({what}); expected YAML") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: holds a {type(content).__name__}; expected train, val and names, as Ultralytics has them"
        )
    return content


def class_names(description: dict[str, Any], used: Iterable[Any]) -> dict[int, str]:
    """{id: name}; without names in data.yaml, the ids that are used are their own names."""
    names = description.get("names")
    if isinstance(names, list):
        return {number: str(name) for number, name in enumerate(names)}
    if isinstance(names, dict):
        return {int(number): str(name) for number, name in names.items() if str(number).isdecimal()}
    count = description.get("nc")
    known = range(count) if type(count) is int and 0 < count < 100_000 else {id_ for id_ in used if type(id_) is int}
    return {number: str(number) for number in sorted(known)}


def split_images(root: Path, description: dict[str, Any], split: str) -> list[str]:
    """The images of a split, below `root`. Raises: DataError when its folders are not there, or hold none."""
    # Where only one of the splits is given, its images are those of both.
    order = [*SPLITS[split], *SPLITS[{"train": "val", "val": "train"}[split]]]
    given = next((description[name] for name in order if description.get(name)), None)
    texts = [str(one) for one in (given if isinstance(given, list) else [given])] if given is not None else []
    base = str(description.get("path") or "")
    found = [_find(root, [*tails(f"{base}/{text}"), *tails(text)]) for text in texts] or [_default(root, split)]
    if None in found:
        lost = [text for text, path in zip(texts, found, strict=True) if path is None]
        raise DataError(
            f"{root}: {split} is {join_names(lost)} in data.yaml, which is not there; name a folder of images there, "
            "or set data.root to the folder above"
        )
    images = [image for path in found if path is not None for image in _images_below(root, path)]
    if not images:
        where = ", ".join(str(path) for path in found)
        raise DataError(f"{where}: holds no images of {split}; expected files of {', '.join(SUFFIXES)}")
    return list(dict.fromkeys(images))


def label_file(root: Path, image: str) -> str | None:
    """The text file of an image: in labels/ in the place of the last images/, or beside it; None where it has none."""
    stem = image.rpartition(".")[0]
    head, folder, tail = f"/{stem}".rpartition("/images/")
    places = [f"{head}/labels/{tail}".lstrip("/")] if folder else []
    return next((f"{place}.txt" for place in [*places, stem] if is_file(root / f"{place}.txt")), None)


def surplus_labels(root: Path, labels: Mapping[str, str | None]) -> list[str]:
    """Text files with lines of outlines, beside those of the images, of whose name no image is there.

    labels: {image: its text file, or None}
    """
    pairs = {(str(Path(image).parent), str(Path(label).parent)) for image, label in labels.items() if label}
    stems: dict[str, set[str]] = {}  # {folder of text files: names of the images in its folder of images}
    for images, texts in sorted(pairs):
        names = (file.stem for file in (root / images).iterdir()) if (root / images).is_dir() else ()
        stems.setdefault(texts, set()).update(names)
    used = set(labels.values())
    found = [path for texts, names in stems.items() for path in sorted((root / texts).glob("*.txt"))]
    found = [path for path in found if path.relative_to(root).as_posix() not in used]
    return [
        path.relative_to(root).as_posix()
        for path in found
        if OUTLINE.match(read_text(path)) and (path.stem not in stems[str(path.parent.relative_to(root))])
    ]


def _find(root: Path, ends: list[str]) -> Path | None:
    """The first folder, or list of images, of these ends of paths."""
    return next((root / end for end in ends if (root / end).is_dir() or is_file(root / end)), None)


def _default(root: Path, split: str) -> Path:
    """The usual folder of a split; images/ or `root` of both where there is none."""
    folders = {
        own: next(
            (
                root / place
                for name in names
                for place in (f"images/{name}", f"{name}/images", name)
                if (root / place).is_dir()
            ),
            None,
        )
        for own, names in SPLITS.items()
    }
    if all(folders.values()):
        return folders[split] or root
    return root / "images" if (root / "images").is_dir() else root


def _images_below(root: Path, path: Path) -> list[str]:
    """Paths below `root` of the images in a folder and below it, or in a list."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
        return [file.relative_to(root).as_posix() for file in files]
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    return [locate(root, line) or line for line in lines]
