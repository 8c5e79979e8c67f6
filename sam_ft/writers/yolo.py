"""YOLO's segmentation labels: one polygon a line, which loses holes and parts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_ft.utils.files import write_atomic
from sam_ft.writers.instances import Instances

OFFSET = 0.01  # pixels, added before the division by the image's side: see `write_yolo`


def write_yolo(path: Path, instances: Instances) -> None:
    """Writes a line for each object: the class, counted from 0, and the outline of its largest part.

    Points are the indices of the pixels on the outline, x / W and y / H, which readers fill with OpenCV's fillPoly.
    Some readers round x / W · W and others truncate it; the offset makes both find x. There are no scores, since YOLO's
    parsers would take them for coordinates.
    """
    height, width = instances.size
    lines = []
    for (x0, y0, mask), place in zip(instances.crops(), instances.class_places, strict=True):
        points = np.add(_largest_outline(mask), (x0 + OFFSET, y0 + OFFSET)) / (width, height)
        lines.append(" ".join([str(place), *(f"{coordinate:.8f}" for coordinate in points.ravel())]) + "\n")
    write_atomic(path, "".join(lines))


def write_data_yaml(path: Path, parts: Sequence[Path], classes: Mapping[int, str]) -> None:
    """Writes data.yaml beside the folder of labels; `parts` is not needed."""
    # A JSON string is a YAML string.
    names = "".join(
        f"  {place}: {json.dumps(classes[label], ensure_ascii=False)}\n" for place, label in enumerate(sorted(classes))
    )
    text = (
        "# Copy or link the images into the folder images/ beside labels/, in the same subfolders.\n"
        f"train: images\nval: images\nnc: {len(classes)}\nnames:\n{names}"
    )
    write_atomic(path, text)


def _largest_outline(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(K, 2) x, y of the pixels at the corners of the largest part's outline, K >= 3."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = stats[1:, cv2.CC_STAT_AREA].argmax() + 1  # 0 is the background
    outlines, _ = cv2.findContours((parts == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = outlines[0][:, 0]
    # Parsers take fewer than three points for a box.
    return points if len(points) >= 3 else np.resize(points, (3, 2))
