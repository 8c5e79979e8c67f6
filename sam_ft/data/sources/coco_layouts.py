"""Finds the annotation files of a folder by their names, and the folders of their images by the names in them."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sam_ft.data.sources.coco_issues import Problems
from sam_ft.data.sources.coco_json import image_name
from sam_ft.data.sources.layout import nfc
from sam_ft.data.sources.locate import folders_below, locate, similar_file, tails
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.sa1b import is_of_one_image
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

# Words in the names of files and folders, as detectron2, Roboflow, CVAT, FiftyOne and LVIS write them.
WORDS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}}
# Of files without outlines, and of splits that are not read.
UNUSED = {"test", "testing", "captions", "panoptic", "keypoints", "stuff", "info", "unlabeled"}
TRIED = 20  # images that are looked for in each folder
MAX_FOLDERS = 200
SMALL = 1_000_000  # bytes
MAX_TRIED = 10  # folders in which a file of a similar name is looked for


class ImageFolders(NamedTuple):
    """The folder of the images of a file, others that hold all of the same names, and those that hold other ones."""

    best: Path
    alike: list[Path]
    others: list[Path]

    def remarks(self, split: str | None) -> Problems:
        """What to look at."""
        own: Problems = {}
        if self.alike:
            option = f"data.{split or 'train'}_images names another"
            remark = f"hold files of the same names as the images, which are read from {self.best}; {option}"
            own["folders", remark] = [str(folder) for folder in self.alike]
        if self.others:
            remark = f"hold images of the file too, which are read from {self.best}; file_name must hold the folder"
            own["folders", remark] = [str(folder) for folder in self.others]
        return own


def find_json(root: Path, given: Mapping[str, str | None]) -> dict[str, str | None]:
    """The files of "train" and "val" below a folder: {split: name, or None where it is not clear}.

    Both are the same where there is a single file, unless it is of "train" by its name. Of JSON files with one image
    each, their folder is named.

    given: those that are named by the user, or None
    """
    train, val = given["train"], given["val"]
    if train and val:
        return {"train": train, "val": val}
    others = [name for name in _candidates(root) if name not in (train, val)]
    of = {split: [name for name in others if _words(name) & words] for split, words in WORDS.items()}
    rest = [name for name in others if name not in of["train"] + of["val"]]
    # A file of no split is that of both, if it is alone.
    if train is None:
        named = of["train"] or ([] if of["val"] or val else rest)
        train = named[0] if len(named) == 1 else None
        rest = [name for name in rest if name != train]
    if val is None:
        val = of["val"][0] if len(of["val"]) == 1 else None
        if train and not (of["val"] or rest or _words(train) & WORDS["train"]):
            val = train
    return {"train": train, "val": val}


def unclear_file(root: Path, split: str) -> DataError:
    """The error where the file of a split is not clear."""
    if not (found := _candidates(root)):
        return DataError(
            f"{root}: holds no annotations; expected .json files there or in a folder below. Set data.root to the "
            f"folder above them, or name the file with data.{split}"
        )
    if any(_is_labelme(root / name) for name in found[:1]):
        return DataError(f"{root / found[0]}: is one of LabelMe and holds no COCO annotations; set data=labelme")
    return DataError(
        f"{root}: which file is that of {split} is not clear from the names {join_names(found)}; name it with "
        f"data.{split}. Where one file holds the images of both splits, set data.train and data.val to it"
    )


def find_image_folder(root: Path, file: str, images: Sequence, split: str | None) -> ImageFolders:
    """The folder that holds most of the first images of a file.

    images: the entries of the file · split: of which the file is, or None if it is of both
    Raises: DataError when no folder holds any of them.
    """
    all_names = [name for entry in images if (name := image_name(entry))]
    depth = max(2, len(Path(file).parts) - 1)
    first = [root / str(split), (root / file) if (root / file).is_dir() else (root / file).parent]
    folders = list(dict.fromkeys([*(folder for folder in first if folder.is_dir()), *folders_below(root, depth)]))
    if split is not None:  # both splits may have images of the same names
        other = WORDS["val" if split == "train" else "train"]
        folders = [folder for folder in folders if not _words(str(folder.relative_to(root))) & other]
    folders = folders[:MAX_FOLDERS]
    # The first ones that are there, if there are some: of a large set people have a part.
    known = {nfc(name) for folder in folders for name in os.listdir(folder)}
    there = (name for name in all_names if nfc((tails(name) or [""])[-1]) in known)
    names = list(islice(there, TRIED)) or all_names[:TRIED]
    # A folder that holds the name as it is counts more than one that holds its end; then the folder of the split, and
    # one that is called images.
    found = {folder: {name: fit for name in names if (fit := _fit(folder, name))} for folder in folders}
    own = root / str(split)
    best = max(found, key=lambda folder: (sum(found[folder].values()), folder == own, _is_of_images(root, folder)))
    if names and not found[best]:
        remedy = f"name their folder with data.{split or 'train'}_images"
        if similar := next(filter(None, (similar_file(folder, names[0]) for folder in list(found)[:MAX_TRIED])), None):
            remedy = (
                f"{similar} is there: correct the names in the JSON, which differ in suffix, case or characters as %20"
            )
        raise DataError(f"{root / file}: its images {join_names(names)} are in no folder of {root}; {remedy}")
    others = [folder for folder in folders if folder != best]
    clear = best == own or _is_of_images(root, best)
    alike = [
        one for one in others if names and found[one] == found[best] and not (clear and not _is_of_images(root, one))
    ]
    return ImageFolders(best, alike, [one for one in others if found[one].keys() - found[best].keys()])


def _candidates(root: Path) -> list[str]:
    """The JSON files in a folder and in those below it, and the folders with one of them an image.

    Folders that lie deeper count where these hold none.
    """
    return _json_files(root, 1) or _json_files(root, 3)


def _json_files(root: Path, depth: int) -> list[str]:
    found = []
    for folder in list(folders_below(root, depth))[:MAX_FOLDERS]:
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".json" and path.name[0] != "."]
        used = [path for path in files if not _words(path.relative_to(root).as_posix()) & UNUSED]
        by_size = sorted(used, key=lambda path: path.stat().st_size)
        # Two files may be those of the splits, which take long to read.
        small = [path for path in by_size[len(used) // 2 :][:1] if len(used) > 2 or path.stat().st_size < SMALL]
        one_each = any(map(is_of_one_image, small))
        found += [path.relative_to(root).as_posix() for path in ([folder] if one_each else used)]
    return found


def _is_labelme(path: Path) -> bool:
    if path.is_dir() or path.stat().st_size > SMALL:
        return False
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.lower()))


def _is_of_images(root: Path, folder: Path) -> bool:
    return bool(_words(folder.relative_to(root).as_posix()) & {"images", "image", "imgs", "img", "data", "photos"})


def _fit(folder: Path, name: str) -> int:
    found = locate(folder, name)
    return 0 if found is None else 2 if found == name else 1
