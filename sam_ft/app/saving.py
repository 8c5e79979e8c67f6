"""Writes the masks of an image as predict.py does, and as training data."""

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sam_ft.data.sources.pairing import SUFFIXES
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import atomic_path, sha256, write_atomic
from sam_ft.writers.formats import FORMATS, write_results
from sam_ft.writers.instances import Instances
from sam_ft.writers.labels import label_image, write_label_tiff

VAL_EVERY = 5  # images of training data, of which one is for validation


def save_results(folder: Path, formats: Sequence[str], instances: Instances) -> None:
    """Writes the files of one image, and the files about all images of which there are results."""
    write_results(folder, formats, instances)
    for one in (FORMATS[name] for name in formats):
        if one.summary is not None and one.finish is not None:
            files = sorted(path for path in (folder / one.folder).rglob(f"*{one.suffix}") if path.is_file())
            one.finish(folder / one.summary, files, instances.classes)


def save_training_data(folder: Path, instances: Instances, by_class: bool) -> None:
    """Writes images/NAME and masks/NAME, which `data=folder` reads, and lists NAME. Later masks lie on top.

    by_class: the mask has the label of the class at each pixel, else the number of the object

    Raises: DataError when another image of this name is there, or its suffix is none that is read.
    """
    path = instances.path
    name = instances.name.replace("/", "_")  # the folders of training data are flat
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: training reads images called {', '.join(SUFFIXES)}; rename it")
    copy = folder / "images" / f"{name}{path.suffix}"
    if copy.exists() and sha256(copy) != sha256(path):
        raise DataError(f"{copy}: is another image of the same name; rename one of them")
    ids = label_image(replace(instances, scores=torch.arange(len(instances), dtype=torch.float32)))
    if by_class:
        ids = np.array([0, *instances.labels.tolist()], np.uint16)[ids]
    with atomic_path(copy, size=path.stat().st_size) as temporary:
        shutil.copyfile(path, temporary)
    write_label_tiff(folder / "masks" / f"{name}.tif", ids)
    _add_to_split(folder, name)


def _add_to_split(folder: Path, name: str) -> None:
    """Adds a new image to train.txt or val.txt: the second of all to val.txt, and then each fifth.

    A split by hash can leave one of them without any of a few images.
    """
    paths = {which: folder / f"{which}.txt" for which in ("train", "val")}
    lists = {which: path.read_text().splitlines() if path.exists() else [] for which, path in paths.items()}
    known = [*lists["train"], *lists["val"]]
    if name not in known:
        lists["val" if len(known) % VAL_EVERY == 1 else "train"].append(name)
    for which, path in paths.items():
        write_atomic(path, "".join(f"{one}\n" for one in lists[which]))


def training_command(folder: Path, reading: Mapping[str, Any], classes: Mapping[int, str] | None) -> str:
    """The command that trains on such a folder; its images are read as the run reads them.

    reading: see `cli.runs.Run` · classes: {label: name} of masks by class
    """
    root = str(folder)
    settings = ["data=folder", f"data.root={root}" if re.fullmatch(r"[\w./-]+", root) else f'data.root="{root}"']
    if classes is None:
        settings.append("data.objects=instances")
    else:
        names = ", ".join(f"{name}: {label}" for label, name in classes.items())
        settings += ["data.objects=classes", f"data.classes={{{names}}}"]
    settings += [f"data.{name}={value}" for name, value in reading.items() if value not in (None, "percentile")]
    return shlex.join(["sam-ft", "train", *settings])
