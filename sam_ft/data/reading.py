"""Reads one image or one mask by stated rules, or says why not.

Pillow and not OpenCV: OpenCV crashes on file names that are not UTF-8 and returns the upper half of a truncated JPEG.
The EXIF orientation is applied to image and mask alike, each by its own tag, so everything here is upright.
"""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from sam_ft.errors import DataError
from sam_ft.types import Size


def read_image(path: Path) -> NDArray[np.uint8]:
    """An 8-bit image of any colour mode as RGB; alpha is dropped.

    → (H, W, 3) uint8. Raises: DataError when the file cannot be decoded in full, or has more than 8 bits.
    """
    image = _decode(path)
    if image.mode == "F" or image.mode.startswith("I"):
        raise DataError(
            f"{path}: the image has more than 8 bits a pixel (Pillow mode {image.mode}), which this version does not "
            "read; convert it to 8 bits, with the contrast that the objects need"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")  # else Pillow warns that it ignores the transparency
    return np.array(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.integer]:
    """The values of a mask as they are stored: a palette's indices, never its colours.

    → (H, W) integers. Raises: DataError when the file cannot be decoded in full, has colours, or has fractions.
    """
    mask = _decode(path)
    if mask.mode == "LA":
        mask = mask.getchannel("L")
    values = np.array(mask)
    if values.ndim == 3 and mask.mode in ("RGB", "RGBA"):
        values = values[..., :3]
        if (values != values[..., :1]).any():
            raise DataError(
                f"{path}: the mask has colours; expected one value a pixel. Save it as a single channel: "
                "0 and 255 for one kind of object, or integer ids"
            )
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise DataError(
            f"{path}: the mask is stored as Pillow mode {mask.mode}; expected one channel of integers. "
            "Save it as an 8-bit PNG with 0 and 255, or integer ids"
        )
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def read_binary_mask(path: Path) -> tuple[NDArray[np.bool_], bool]:
    """A mask of {0, 1} or {0, 255}, or a lossy one near 0 and 255, which is cut at half of the range.

    → (H, W) bool, and whether it was lossy. Raises: DataError when it has other values.
    """
    values = read_mask(path)
    top = int(values.max())
    present = _present(values)
    if top <= 1 or (top == 255 and len(present) <= 2 and present[0] in (0, 255)):
        return values > 0, False
    if _is_lossy(values):
        return values > 127, True
    shown = ", ".join(map(str, present[:8])) + (", ..." if len(present) > 8 else "")
    raise DataError(
        f"{path}: the mask has the values {shown}; expected 0 and 1, or 0 and 255. Several values look like several "
        "classes or instances: where each value is one object, set data.objects=instances; where it is a class, "
        "save each class as a binary mask, since this version has no multi-class setting"
    )


def read_instance_mask(path: Path) -> NDArray[np.integer]:
    """An image of instance ids, 8 or 16 bits, 0 for the background.

    → (H, W) integers in [0, 65535]. Raises: DataError when ids cannot be trusted or are out of range.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(f"{path}: JPEG changes pixel values, so instance ids in it are lost; save the ids as PNG")
    values = read_mask(path)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"{path}: instance ids go from {low} to {high}; expected 0 (background) to 65535")
    return values


def read_size(path: Path) -> Size:
    """The size that `read_image` would return, without decoding the pixels."""
    with _opened(path) as image:
        width, height = image.size
        # Pillow's getexif decodes all of a PNG, since EXIF data may come last; the base class takes what came before.
        early = image.format == "PNG" and not _goes_on_after_pixels(path)
        exif = Image.Image.getexif(image) if early else image.getexif()
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _goes_on_after_pixels(png: Path) -> bool:
    """Whether a PNG has a chunk after its pixels (IDAT) besides the end."""
    with open(png, "rb") as file:
        file.seek(8)
        seen = b""
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND" or (seen == b"IDAT" and kind != b"IDAT"):
                return kind != b"IEND"
            seen = kind
            file.seek(length + 4, os.SEEK_CUR)  # its bytes and their checksum
    return True


def _decode(path: Path) -> Image.Image:
    """Decodes all of a file (`verify` passes truncated ones) and turns it upright."""
    with _opened(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Whatever goes wrong with the file inside the block becomes a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata, which does not change a pixel
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                pages = getattr(image, "n_frames", 1)
                if pages > 1 and image.format != "MPO":  # a camera's JPEG with a preview of itself
                    raise DataError(
                        f"{path}: holds {pages} pages; expected one. Save the page that is meant as a file of its own"
                    )
                yield image
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: too large to read ({error}); cut it into tiles") from error
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, EOFError ...
        raise DataError(
            f"{path}: cannot be read ({error}); check that the file is complete and really an image, or take it out"
        ) from error


def _present(values: NDArray[np.integer]) -> list[int]:
    """The distinct values, ascending."""
    if values.dtype.kind == "u":  # counting is ten times faster than sorting
        return np.flatnonzero(np.bincount(values.ravel())).tolist()
    return np.unique(values).tolist()


def _is_lossy(values: NDArray[np.integer]) -> bool:
    """Whether a binary mask went through JPEG or a smooth resize: in-between values, but only along edges.

    Ids of classes or instances fill areas, so most of their in-between pixels equal the neighbours to the right and
    below; along a blurred edge few do. A grey picture has more in-between pixels than white ones.
    """
    if values.min() < 0 or not 240 <= values.max() <= 255:
        return False
    white, between = (values >= 192).sum(), ((values >= 64) & (values < 192)).sum()
    soft = ((values > 0) & (values < 240))[:-1, :-1]
    same = (values[:-1, :-1] == values[1:, :-1]) & (values[:-1, :-1] == values[:-1, 1:])
    return bool(between <= white and (soft & same).sum() <= soft.sum() / 2)
