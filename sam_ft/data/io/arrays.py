"""Reads NumPy's .npy and .npz files as masks, without unpickling anything."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from sam_ft.data.io.pickled_masks import find_pickled_masks
from sam_ft.utils.errors import DataError

ARRAYS = (".npy", ".npz")
MASK_NAMES = ("masks", "mask", "labels", "label", "gts", "gt", "instances", "arr_0")  # of one array among several
CELLPOSE_ADVICE = (
    "holds Python objects (pickle), which may run code and are not loaded; only the masks of Cellpose's _seg.npy are "
    "found in them. Save the masks as PNG or TIFF; Cellpose's are then read with data.mask_suffix=_cp_masks"
)


def read_array(path: Path) -> NDArray:
    """(H, W), or (H, W, 3) of colors; of Cellpose's pickled dictionary the masks.

    Raises: DataError for other pickled content, other shapes, or too many values.
    """
    with _open_array(path) as file:
        shape, dtype = _read_header(path, file)
        if dtype.hasobject:
            values = _read_cellpose(path, file)
            shape = values.shape
        else:
            # The shape is only a claim of the file: no more is allocated than an image may have.
            if Image.MAX_IMAGE_PIXELS is not None and math.prod(shape) > 3 * Image.MAX_IMAGE_PIXELS:
                raise DataError(f"{path}: too large to read (an array of {shape}); cut it into tiles")
            file.seek(0)
            values = npy.read_array(file, allow_pickle=False)
    squeezed = values.reshape([length for length in shape if length != 1]) if values.ndim > 2 else values
    if squeezed.ndim != 2 and not (values.ndim == 3 and shape[-1] == 3):
        raise DataError(
            f"{path}: is an array of {shape}; expected (H, W), with 0 for the background. Save each mask of a stack "
            "as a file of its own"
        )
    return squeezed


def _read_cellpose(path: Path, file: IO[bytes]) -> NDArray:
    try:
        return find_pickled_masks(file.read())
    except Exception as error:  # a damaged or forged pickle can fail anywhere
        raise DataError(f"{path}: {CELLPOSE_ADVICE} ({error})") from None


def _read_header(path: Path, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and the type of an array. Raises: DataError for values that are no numbers."""
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise DataError(f"{path}: is a .npy file of version {version}; expected 1.0 or 2.0, as np.save writes them")
    shape, _, dtype = read(file)
    if dtype.kind not in "biuf" and not dtype.hasobject:
        raise DataError(f"{path}: holds {dtype}; expected integers")
    return shape, dtype


@contextmanager
def _open_array(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of the array, of a .npz those of its only one, or of the one that is named as a mask."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        known = [name for name in MASK_NAMES if name in names and (name != "arr_0" or "arr_1" not in names)]
        chosen = names if len(names) == 1 else known[:1]
        if not chosen:
            raise DataError(
                f"{path}: holds the arrays {', '.join(names) or '(none)'}; expected one, or one with the name "
                f"{' or '.join(MASK_NAMES[:2])}"
            )
        with archive.open(f"{chosen[0]}.npy") as file:
            yield file
