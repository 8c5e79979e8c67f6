"""Label images: a TIFF in which each pixel is the number of its object."""

from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from sam_ft.utils.errors import DataError
from sam_ft.utils.files import atomic_path
from sam_ft.writers.instances import Instances


def write_labels(path: Path, instances: Instances, dtype: Literal["uint16", "uint32"] = "uint16") -> None:
    """Writes the label image as a TIFF.

    dtype: "uint16", or "uint32" for more than 65,535 objects; ImageJ reads both exactly, uint32 up to 16,777,216

    Raises: DataError when there are more objects than numbers.
    """
    write_label_tiff(path, label_image(instances, dtype))


def label_image(instances: Instances, dtype: Literal["uint16", "uint32"] = "uint16") -> NDArray:
    """(H, W), 0 for the background and i for object i.

    Where objects overlap, the one of higher score lies on top, of equal scores the earlier one; a number is missing if
    others cover its object.

    Raises: DataError when there are more objects than numbers.
    """
    if len(instances) > np.iinfo(dtype).max:
        raise DataError(
            f"{instances.path}: {len(instances)} objects were found, but labels of {dtype} number at most "
            f"{np.iinfo(dtype).max}; write uint32 with save=[labels_uint32]"
        )
    labels = np.zeros(instances.size, dtype)
    # The lowest score first, so that higher ones are painted over it; of equals the last.
    order = torch.sort(instances.scores.flip(0), stable=True).indices
    for position in (len(instances) - 1 - order).tolist():
        x0, y0, mask = instances.masks.crop(position)
        labels[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask] = position + 1
    return labels


def write_label_tiff(path: Path, labels: NDArray) -> None:
    """labels: (H, W), compressed with zlib"""
    with atomic_path(path) as temporary:
        # no metadata: they would name the version of tifffile
        tifffile.imwrite(temporary, labels, photometric="minisblack", compression="zlib", metadata=None, software=False)
