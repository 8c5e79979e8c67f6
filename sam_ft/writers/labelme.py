"""labelme's annotation files, with masks."""

import base64
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam_ft.utils.files import as_json, write_atomic
from sam_ft.writers.instances import Instances

LABELME_VERSION = "5.5.0"  # the first with shapes of type mask is 5.3


def write_labelme(path: Path, instances: Instances) -> None:
    """Writes a JSON with a mask for each object; labelme opens the image that it names.

    The two points of a mask are its first and its last pixel, both included.
    """
    height, width = instances.size
    shapes: list[dict] = []
    for (x0, y0, mask), name, score in zip(
        instances.crops(), instances.class_names(), instances.short_scores(), strict=True
    ):
        shapes.append(
            {
                "label": name,
                "points": [[x0, y0], [x0 + mask.shape[1] - 1, y0 + mask.shape[0] - 1]],
                "group_id": None,
                "description": "",
                "shape_type": "mask",
                "flags": {},
                "mask": _encode_png(mask),
                "score": score,
            }
        )
    content: dict[str, Any] = {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": _path_from(instances.path, path.parent),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_atomic(path, as_json(content, indent=2) + "\n")


def _path_from(image: Path, folder: Path) -> str:
    """The way from a folder to the image, without links, in which ".." would lead elsewhere."""
    try:
        return Path(os.path.relpath(image.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return image.resolve().as_posix()


def _encode_png(mask: NDArray[np.bool_]) -> str:
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
