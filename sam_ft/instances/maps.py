"""The three maps of an image from which its instances follow: foreground, center and boundary."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CHANNELS = ("foreground", "center", "boundary")


def instance_maps(ids: NDArray[Any]) -> NDArray[np.float32]:
    """Maps of all objects of an image, each from 0 in the background to 1.

    ids: (H, W) int, 0 background, else the id of an object → (3, H, W) float32
        foreground: 1 in objects
        center: 1 at an object's center, falling with the distance to it, 0 at its farthest pixel
        boundary: distance to the nearest pixel outside of the object, divided by the largest in the object

    The center is the centroid; if that lies outside of the object, its pixel farthest from the boundary. Outside of
    the image counts as outside of the object. These are the maps of micro-sam's automatic instance segmentation
    (Archit et al. 2025, https://doi.org/10.1038/s41592-024-02580-4), which stores the last two as 1 - x.
    """
    maps = np.zeros((3, *ids.shape), np.float32)
    maps[0] = ids > 0
    for number, box in enumerate(ndimage.find_objects(ids), 1):
        if box is None:  # an id that no pixel has
            continue
        mask = ids[box] == number
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        rows, columns = np.nonzero(mask)
        row, column = round(rows.mean()), round(columns.mean())
        if not mask[row, column]:
            row, column = np.unravel_index(depth.argmax(), depth.shape)
        distances = np.hypot(rows - row, columns - column)
        maps[1][box][mask] = 1 - distances / max(1.0, distances.max())
        maps[2][box][mask] = depth[mask] / depth.max()
    return maps
