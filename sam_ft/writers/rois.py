"""ImageJ's regions of interest (ROIs), a zip that the ROI Manager opens.

Source of the format: ImageJ's RoiEncoder and RoiDecoder.
"""

import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from sam_ft.utils.files import atomic_path
from sam_ft.writers.instances import Instances
from sam_ft.writers.outlines import Ring, trace_outlines

VERSION = 227
RECTANGLE, TRACED = 1, 8  # a rectangle with segments of floats is a composite of several outlines
MOVE_TO, LINE_TO, CLOSE = 0.0, 1.0, 4.0  # segments
MAX_SHORT = 32_767
HEADER = ">4sHBxHHHHH16xHI4s4sHHBBHII"
HEADER_2 = ">4xIIIII4sHBBIfIII12x"
NO_COLOR = bytes(4)


def write_rois(path: Path, instances: Instances) -> None:
    """Writes a ROI for each object on the edges of its pixels, named by its number and its class.

    An object of one part without holes is a traced polygon. Others, and those beyond 32,767 px, are composite ROIs,
    which keep parts and holes.
    """
    digits = max(5, len(str(len(instances))))
    rows = zip(instances.crops(), instances.class_names(), instances.class_colors(), strict=True)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, ((x0, y0, mask), class_name, color) in enumerate(rows, 1):
            name = f"{number:0{digits}}-{re.sub(r'[^-. 0-9A-Za-z]', '_', class_name)}"
            rings = [[(x + x0, y + y0) for x, y in ring] for part in trace_outlines(mask) for ring in part]
            box = (x0, y0, x0 + mask.shape[1], y0 + mask.shape[0])
            # Fixed, since the same masks must give the same bytes: the date, and the system that wrote.
            entry = zipfile.ZipInfo(f"{name}.roi", (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, _encode_roi(name, rings, box, bytes([255, *color])))


def _encode_roi(name: str, rings: list[Ring], box: tuple[int, int, int, int], color: bytes) -> bytes:
    """The bytes of a .roi file.

    box: x0, y0, x1, y1 · color: alpha, red, green, blue of the outline
    """
    x0, y0, x1, y1 = box
    # ImageJ takes some shorts above 32,767 for negative ones; a composite has floats.
    if len(rings) == 1 and len(rings[0]) <= MAX_SHORT and max(x1, y1) <= MAX_SHORT:
        # All x, then all y, from the corner of the box.
        kind, points, segments = TRACED, len(rings[0]), 0
        coordinates = (np.array(rings[0]) - (x0, y0)).T.astype(">i2").tobytes()
    else:
        path = np.array([number for ring in rings for number in _segments(ring)], ">f4")
        kind, points, segments, coordinates = RECTANGLE, 0, len(path), path.tobytes()
    end = 64 + len(coordinates)
    header = struct.pack(
        HEADER,
        *(b"Iout", VERSION, kind, y0, x0, y1, x1, points),
        *(0, segments, color, NO_COLOR, 0, 0, 0, 0, 0, 0, end),  # stroke width, ..., second header
    )
    text = name.encode("utf-16-be")
    second = struct.pack(HEADER_2, 0, 0, 0, end + 64, len(name), NO_COLOR, 0, 0, 0, 0, 0.0, 0, 0, 0)
    return header + coordinates + second + text


def _segments(ring: Ring) -> list[float]:
    """A closed outline as ImageJ's list of floats: a kind and its point, one after the other."""
    kinds = [MOVE_TO, *[LINE_TO] * (len(ring) - 1)]
    return [number for kind, (x, y) in zip(kinds, ring, strict=True) for number in (kind, x, y)] + [CLOSE]
