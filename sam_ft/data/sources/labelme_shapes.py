"""Reads the JSON files of LabelMe as images and annotations of COCO."""

import base64
import binascii
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_ft.data.sources.coco_issues import InvalidEntry, LeftOut
from sam_ft.data.sources.layout import SUFFIXES
from sam_ft.data.sources.locate import is_file, locate, tails
from sam_ft.data.sources.names import join_names
from sam_ft.data.sources.run_lengths import encode_crop
from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

# Shapes of LabelMe and X-AnyLabeling whose points are the corners of a polygon.
POLYGONS = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")
LINES = ("line", "linestrip", "point", "points", "cross")


def read_labelme(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Images and annotations of all JSON files below a folder; an annotation has a label in the place of a category.

    Shapes of one label and one group_id are one object. An image is "embedded" where its JSON holds its pixels too, and
    "unlike" where the JSON names another image than the one of its own name beside it.

    Raises: DataError about a file that is damaged, or is of another format.
    """
    images, annotations = [], []
    files = _visible_files(root)
    below: dict[str, list[str]] = defaultdict(list)  # {name and stem of an image: its paths}
    for path in files:
        if path.suffix.lower() in SUFFIXES:
            for own_name in (path.name, path.stem):
                below[own_name].append(path.relative_to(root).as_posix())
    for path in (path for path in files if path.suffix.lower() == ".json"):
        name = path.relative_to(root).as_posix()
        content = _load(path)
        size = {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
        image = _name_of_image(root, path, content, below)
        beside = any(is_file(path.with_suffix(end)) for end in SUFFIXES)
        odd = {"embedded": bool(content.get("imageData")), "unlike": beside and Path(image).stem != path.stem}
        images.append({"id": name, "file_name": image, **size, **odd})
        groups: dict[tuple, list[Any]] = {}
        for position, shape in enumerate(content["shapes"] or []):
            own = shape if isinstance(shape, dict) else {}
            label, group = str(own.get("label")), own.get("group_id")
            key = (label, "shape", position) if group in (None, "") else (label, "group", str(group))
            groups.setdefault(key, []).append(_shape_outline(own, size))
        for (label, *which), outlines in groups.items():
            own_label = f" of {label}" if which[0] == "group" else ""  # a group_id may be that of several labels
            entry = {"id": f"{name}: {which[0]} {which[1]}{own_label}", "image_id": name, "label": label}
            group = which[1] if which[0] == "group" else None
            annotations.append({**entry, "segmentation": _joined(outlines), "group": group, "shapes": len(outlines)})
    if not images:
        raise DataError(f"{root}: holds no .json files, there or below; expected one of LabelMe for each image")
    return {"images": images, "annotations": annotations}


def _visible_files(root: Path) -> list[Path]:
    """All files below a folder, without those of hidden folders, such as .ipynb_checkpoints."""
    found = ((path, path.relative_to(root)) for path in root.rglob("*"))
    return sorted(path for path, below in found if not any(part.startswith(".") for part in below.parts))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected JSON of LabelMe. Save it again, or move it"
        ) from error
    # null: some tools write it for an image without objects.
    empty = isinstance(content, dict) and content.get("shapes", 0) is None and "imagePath" in content
    if not empty and not (isinstance(content, dict) and isinstance(content.get("shapes"), list)):
        keys = f"the keys {join_names(sorted(map(str, content)))}" if isinstance(content, dict) else ""
        found = keys or f"a {type(content).__name__}"
        hint = "; it looks like COCO: set data=coco" if isinstance(content, dict) and "annotations" in content else ""
        raise DataError(
            f"{path}: has {found}; expected a list of shapes and an imagePath, as LabelMe writes them"
            f"{hint or '. Move files of other content to another folder'}"
        )
    return content


def _name_of_image(root: Path, path: Path, content: dict[str, Any], below: Mapping[str, Sequence[str]]) -> str:
    """The path below `root` of the image of a JSON file, or its imagePath where no file is there.

    below: {name: paths below `root`} of the images
    """
    folder = path.parent
    given = content.get("imagePath")
    given = given if isinstance(given, str) else ""
    # Files that were renamed together keep their stem in common.
    here = locate(folder, given) or next((path.stem + end for end in SUFFIXES if is_file(path.with_suffix(end))), None)
    if here:
        return (folder / here).relative_to(root).as_posix()
    # JSON files in a folder of their own: an image of that name below, if there is only one.
    alone = not any(file.suffix.lower() in SUFFIXES for file in folder.iterdir())
    elsewhere = [below.get(key, ()) for key in ((tails(given) or [""])[-1], path.stem) if alone]
    return next((found[0] for found in elsewhere if len(found) == 1), given or path.with_suffix("").name)


def _shape_outline(shape: dict[str, Any], size: dict[str, Any]) -> Any:
    """A polygon, an RLE, or the reason why there is none."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in LINES:
        return LeftOut("are lines or points, and are left out")
    try:
        corners = np.array(points, np.float64)
    except (TypeError, ValueError):
        corners = np.zeros(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        return InvalidEntry("have other points than [[x, y], ...]")
    if kind in POLYGONS or (kind == "rectangle" and len(corners) == 4):
        return corners.ravel().tolist()
    if len(corners) != 2 or kind not in ("rectangle", "circle", "mask"):
        known = ", ".join([*POLYGONS, "rectangle", "circle", "mask"])
        return InvalidEntry(f"are of an unknown shape, or have another number of points (known are {known})", kind)
    (x0, y0), (x1, y1) = corners.tolist()
    if kind == "rectangle":
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    if kind == "circle":
        return _circle(x0, y0, math.hypot(x1 - x0, y1 - y0))
    return _mask(shape.get("mask"), int(x0), int(y0), size)


def _circle(x: float, y: float, radius: float) -> list[float]:
    """A polygon whose corners are on the circle and whose edges are within a pixel of it, as labelme2coco draws it."""
    count = max(12, math.ceil(math.pi / math.acos(max(1 - 1 / max(radius, 1), 0))))
    angles = np.arange(count) * 2 * np.pi / count
    return np.stack([x + radius * np.sin(angles), y + radius * np.cos(angles)], 1).ravel().tolist()


def _mask(text: Any, x: int, y: int, size: dict[str, Any]) -> Any:
    """RLE of a mask in a PNG in base64, of which the first pixel is at x, y."""
    height, width = size["height"], size["width"]
    if type(height) is not int or type(width) is not int:
        return InvalidEntry("have a mask, but no imageHeight and imageWidth")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as picture:
            if picture.width > width or picture.height > height:
                return InvalidEntry("have a mask that is larger than its image")
            crop = np.array(picture.convert("L")) > 0
    except (TypeError, ValueError, OSError, binascii.Error, Image.DecompressionBombError):
        return InvalidEntry("have a mask that is no PNG in base64")
    crop = crop[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)]
    if not crop.size:
        return InvalidEntry("lie wholly outside their image (expected pixels from the top left corner)")
    return {"size": [height, width], "counts": encode_crop(max(x, 0), max(y, 0), crop, (height, width)).decode()}


def _joined(outlines: list[Any]) -> Any:
    """The segmentation of the shapes of an object: the first invalid one, or all that are objects."""
    invalid = [one for one in outlines if isinstance(one, InvalidEntry)]
    kept = [one for one in outlines if not isinstance(one, InvalidEntry)]
    broken = next((one for one in invalid if not isinstance(one, LeftOut)), None)
    return broken or kept or invalid[0]
