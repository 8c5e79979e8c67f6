"""The images of a prediction, and the names of their results."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sam_ft.data.sources.layout import SUFFIXES
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.prompt_file import PromptFile
from sam_ft.utils.errors import DataError

log = logging.getLogger("sam_ft")


class ImageFile(NamedTuple):
    """name: of the result files, unique; "a/b" lies in the folder a · file: path below the folder of images"""

    name: str
    file: str
    path: Path


def find_images(pattern: str) -> tuple[Path, list[ImageFile]]:
    """The folder above all images, and the images in order of their names.

    pattern: a folder, of which the images directly inside count, a file, or a pattern with * ? [ ]

    Raises: DataError when there are none.
    """
    given = Path(pattern).expanduser()
    if given.is_dir():
        root, paths = given, [path for path in given.iterdir() if _is_image(path)]
        if not paths:
            deeper = any(_is_image(path) for path in given.glob("*/*"))
            advice = f"those in its folders are read with 'images=\"{given}/**/*\"'" if deeper else "choose another"
            raise DataError(f"images={given}: the folder holds no images ({', '.join(SUFFIXES)}); {advice}")
    elif given.is_file():  # whatever its suffix
        root, paths = given.parent, [given]
    else:
        found = [Path(path) for path in glob.glob(str(given), recursive=True)]
        paths = [path for path in found if _is_image(path)]
        if not paths:
            what = "no image matches this pattern" if glob.has_magic(str(given)) else "there is no such file or folder"
            raise DataError(f"images={given}: {what}")
        # The fixed part, and not what the files have in common: names stay when further files come.
        root = next(folder for folder in given.parents if not glob.has_magic(str(folder)))
    files = sorted(path.relative_to(root).as_posix() for path in paths)
    return root, [ImageFile(name, file, root / file) for name, file in zip(result_names(files), files, strict=True)]


def result_names(files: Sequence[str]) -> list[str]:
    """The path of each file without its suffix; the whole path where that is not unique."""
    choices = [dict.fromkeys((os.path.splitext(file)[0], file)) for file in files]
    counts = Counter(choice for both in choices for choice in both)
    return [next((one for one in both if counts[one] == 1), file) for both, file in zip(choices, files, strict=True)]


def images_with_prompts(root: Path, images: list[ImageFile], prompts: PromptFile) -> list[ImageFile]:
    """Those images that a file of prompts names. Raises: DataError when there are none, or a name is ambiguous."""
    found = {image: prompts.find(image.file) for image in images}
    chosen = [image for image, name in found.items() if name is not None]
    counts = Counter(name for name in found.values() if name is not None)
    if twice := [name for name, count in counts.items() if count > 1]:
        several = [image.file for image in chosen if found[image] == twice[0]]
        raise DataError(
            f"prompts={prompts.path}: {twice[0]} names several images ({join_names(several)}); write the "
            f"path below {root}"
        )
    if not chosen:
        raise DataError(
            f"prompts={prompts.path}: names {next(iter(prompts.objects))}, but no image in {root} is called by one of "
            f"its names; the first is {images[0].file}"
        )
    if without := len(images) - len(chosen):
        log.info("%d of %d images have no prompts, and are left out", without, len(images))
    if unused := [name for name in prompts.objects if name not in counts]:
        log.warning(
            "%s: %d files with prompts are not among the images: %s", prompts.path, len(unused), join_names(unused)
        )
    return chosen


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
