"""The demo set: cells under a phase-contrast microscope, drawn on first use.

Cells touch, their cytoplasm is grainy, the light is uneven, and each has a nucleus with a sharper edge than its own.
With a box round a cell, SAM therefore often predicts the nucleus or a neighbor's edge, and can learn better.
"""

import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from sam_ft.data.sources.folder import Folder
from sam_ft.utils import files
from sam_ft.utils.leftovers import held, remove_leftovers, temporary_beside

log = logging.getLogger("sam_ft")

VERSION = 2  # part of the folder's name; raise it when the drawing changes
IMAGE_SIDE = 256
NUM_TRAIN, NUM_VAL = 12, 6
DEMO_BYTES = 970_000  # of all files together, about
Picture = NDArray[np.float32]


def demo(objects: str = "instances", min_area: int = 16) -> Folder:
    """The demo set as a folder, drawn on first use.

    objects: see `Folder`; "instances" reads the id images, "whole" and "components" the binary masks of the same cells

    Raises:
        ConfigError: SAM_FT_HOME cannot be written.
    """
    root = files.home() / f"demo-{VERSION}"
    try:
        make_demo(root)
    except OSError as error:
        raise files.unwritable_home(error, DEMO_BYTES) from None
    mask_folder = "instances" if objects == "instances" else "masks"
    return Folder(root, mask_folder=mask_folder, objects=objects, min_area=min_area)


def make_demo(root: Path) -> None:
    """Draws images/, masks/ (0 and 255), instances/ (16-bit ids), train.txt and val.txt, unless `root` exists.

    A lock and a final rename make sure that `root` is complete whenever it exists.
    """
    if root.is_dir():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f"{root.name}.lock")):
        if root.is_dir():  # another process drew it while this one waited
            return
        log.info("drawing the demo set into %s", root)
        remove_leftovers(root.parent)
        temporary = temporary_beside(root)
        temporary.mkdir()
        try:
            with held(temporary):
                _draw_all(temporary)
            temporary.rename(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _draw_all(root: Path) -> None:
    for folder in ("images", "masks", "instances"):
        (root / folder).mkdir()
    names = [f"cells_{index:02d}" for index in range(NUM_TRAIN + NUM_VAL)]
    for index, name in enumerate(names):
        image, ids = draw_cells(np.random.default_rng([VERSION, index]))
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray(np.where(ids > 0, 255, 0).astype(np.uint8)).save(root / "masks" / f"{name}.png")
        Image.fromarray(ids).save(root / "instances" / f"{name}.png")
    for split, chosen in (("train", names[:NUM_TRAIN]), ("val", names[NUM_TRAIN:])):
        (root / f"{split}.txt").write_text("\n".join(chosen) + "\n")


def draw_cells(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """One picture with S = IMAGE_SIDE: image (S, S) uint8 gray, ids (S, S) uint16 with 0 for the background."""
    depth, owner = _cell_shapes(rng)
    inside = depth < 1
    ids = np.where(inside, owner + 1, 0)
    cells = owner.max() + 1

    def per_cell(low: float, high: float) -> Picture:
        return rng.uniform(low, high, cells).astype(np.float32)[owner]

    # the optics: a bright halo outside each edge, a dark rim inside, both broken where the focus is lost
    focus = np.clip(0.55 + 0.45 * _smooth_noise(rng, 14), 0, 1.2)
    halo = np.exp(-(((depth - 1.10) / 0.08) ** 2)) * focus * per_cell(0.05, 0.20)
    rim = np.exp(-(((depth - 0.95) / 0.06) ** 2)) * focus * per_cell(0.04, 0.14)
    # the cell: cytoplasm about as bright as the medium, coarser than it, and a nucleus with a clear edge
    cytoplasm = inside * (per_cell(-0.06, 0.05) + per_cell(0.02, 0.06) * _smooth_noise(rng, 2.2))
    nucleus = _sigmoid((per_cell(0.30, 0.50) - depth) * 25) * (per_cell(-0.22, 0.20) + 0.04 * _smooth_noise(rng, 1.5))
    medium = 0.03 * _smooth_noise(rng, 6) + 0.015 * _smooth_noise(rng, 1.5)
    scene = 0.5 + medium + halo - rim + cytoplasm + nucleus

    # The light: brighter to one side, darker to the edges, with wide blotches.
    y, x = np.mgrid[-1 : 1 : IMAGE_SIDE * 1j, -1 : 1 : IMAGE_SIDE * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.25 * (x * np.cos(angle) + y * np.sin(angle)) - 0.2 * (x**2 + y**2) + 0.08 * _smooth_noise(rng, 60)
    seen = cv2.GaussianBlur((scene * light).astype(np.float32), (0, 0), 0.9)
    # The camera: photon noise, which grows with the light, and read-out noise, which does not.
    photons = 900.0
    noisy = rng.poisson(np.clip(seen, 0.02, None) * photons) / photons + rng.normal(0, 0.012, seen.shape)
    return np.clip(noisy * 255, 0, 255).astype(np.uint8), ids.astype(np.uint16)


def _cell_shapes(rng: np.random.Generator) -> tuple[Picture, NDArray[np.int64]]:
    """Depth and nearest cell of each pixel; depth is 0 at the center and 1 at the edge.

    Depth is the distance to the center over the cell's radius in that direction; where cells would overlap, the
    pixel belongs to the cell with the smaller depth, so they touch along a line.
    """
    radii = rng.uniform(17, 32) * rng.uniform(0.75, 1.3, rng.integers(12, 26))
    centers: list[NDArray[np.float64]] = []
    for radius in radii:
        # Up to 40 tries to place a cell beside another; a cell that finds no place is left out.
        for _ in range(40):
            place = rng.uniform(0.04 * IMAGE_SIDE, 0.96 * IMAGE_SIDE, 2)
            # close enough to touch, far enough that each keeps most of its body
            gaps = [np.hypot(*(place - c)) / (radius + r) for c, r in zip(centers, radii, strict=False)]
            if not gaps or (min(gaps) > 0.80 and (min(gaps) < 1.05 or rng.random() < 0.1)):
                centers.append(place)
                break
    n = len(centers)
    y, x = np.mgrid[:IMAGE_SIDE, :IMAGE_SIDE].astype(np.float32)
    center = np.array(centers, np.float32)[:, :, None, None]
    dx, dy = x - center[:, 0], y - center[:, 1]  # (n, S, S)
    theta = np.arctan2(dy, dx)
    # The radius in each direction: a circle with waves of 2, 3, 4 and 7 lobes.
    outline = np.ones_like(theta)
    for wave, strength in ((2, 0.20), (3, 0.10), (4, 0.06), (7, 0.03)):
        phase, size = rng.uniform((0, 0), (2 * np.pi, strength), (n, 2)).astype(np.float32).T[:, :, None, None]
        outline += size * np.cos(wave * theta + phase)
    depth = np.hypot(dx, dy) / (outline * radii[:n, None, None].astype(np.float32))
    owner = depth.argmin(axis=0)
    return depth.min(axis=0), owner


def _smooth_noise(rng: np.random.Generator, size: float) -> Picture:
    """Smooth noise with blobs of about `size` pixels, mean 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal((IMAGE_SIDE, IMAGE_SIDE)).astype(np.float32), (0, 0), size)
    return (noise - noise.mean()) / noise.std()


def _sigmoid(x: Picture) -> Picture:
    return (0.5 + 0.5 * np.tanh(x / 2)).astype(np.float32)  # exp(-x) would overflow
