"""Masks whose stored values are not those that are shown: palettes, inverted gray scales, alpha channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BLACK, WHITE = 15, 240  # at most, and at least, as lossy compression leaves them
DARK = 96  # the largest channel of a color that is dark beside another that is not


@dataclass(frozen=True)
class Remark:
    """How the values of a mask were taken, where that may surprise.

    one, many: in words that follow the name of one file, and a number of masks · reading, advice: what follows from it
    level: of the issue in a check: "note" or "warning"
    """

    one: str
    many: str
    reading: str
    advice: str = ""
    level: str = "note"

    @property
    def meaning(self) -> str:
        return f"{self.reading}; {self.advice}" if self.advice else self.reading


IN_ALPHA = Remark(
    "is drawn in its alpha channel",
    "are drawn in their alpha channel",
    "their colors are constant, so the opaque pixels are the object",
)
BY_BRIGHTNESS = Remark(
    "has a palette that is not in order of brightness",
    "have a palette that is not in order of brightness",
    "the bright color is the object, whatever its index",
    "data.invert=true for the opposite",
)
BY_INDEX = Remark(
    "has a palette that is not in order of brightness, and no dark color",
    "have a palette that is not in order of brightness, and no dark color",
    "index 0 is the background",
    "data.invert=true for the opposite",
    "warning",
)
AS_STORED = Remark(
    "is a TIFF with an inverted gray scale (WhiteIsZero)",
    "are TIFFs with an inverted gray scale (WhiteIsZero)",
    "the stored numbers count, as in ImageJ: in a binary mask 255 is the object, though it is shown black",
    "data.invert=true for the opposite",
    "warning",
)
AS_SHOWN = Remark(
    "is a TIFF of bits with an inverted scale (WhiteIsZero)",
    "are TIFFs of bits with an inverted scale (WhiteIsZero)",
    "pixels that are shown white are the object",
    "data.invert=true for the opposite, as of booleans that tifffile or scikit-image wrote",
    "warning",
)
BLACK_ELSEWHERE = Remark(
    "has a palette in which 0 is a color and another index is black",
    "have a palette in which 0 is a color and another index is black",
    "index 0 is the background all the same",
    "data.background names the index of black; where it is not the same in all masks, save them in color",
    "warning",
)
VOID = (224, 224, 192)  # the color of pixels to ignore in Pascal VOC
VOID_COLOR = Remark(
    "has the color [224, 224, 192], which is void in Pascal VOC, and is an object here",
    "have the color [224, 224, 192], which is void in Pascal VOC, and is an object here",
    "if it is void, data.ignore_index=[[224,224,192]] makes its pixels count in no loss and no score",
    level="warning",
)


def alpha_of_constant_colors(values: NDArray) -> NDArray | None:
    """The alpha channel of a mask that is drawn there: its colors are constant and its alpha is not.

    values: (H, W, bands), alpha last of 2 or 4 bands → (H, W), or None. An image that is transparent all over is empty.
    """
    if values.ndim != 3 or values.shape[-1] not in (2, 4):
        return None
    colors, alpha = values[..., :-1], values[..., -1]
    if (alpha.any() and alpha.min() == alpha.max()) or (colors != colors[:1, :1]).any():
        return None
    return alpha


def palette_levels(picture: Image.Image, ignored: Sequence[int]) -> tuple[NDArray[np.uint8], Remark | None]:
    """The values of a binary mask with a palette: its indices, unless its colors tell more.

    The brightness counts where the colors are black and white, with gray levels between them as a quantized edge has,
    or where one of two colors is dark; alpha counts where the colors are equal. Such masks get 0 and 255.

    picture: of mode P · ignored: indices that stay · → (H, W), and a remark where index and color disagree
    """
    indices = np.array(picture)
    present = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    used = present[~np.isin(present, list(ignored))]
    rgba = _colors(picture)[used].astype(int)
    colors, alpha, levels = rgba[:, :3], rgba[:, 3], rgba[:, :3].mean(1)
    binary = len(used) == 2 and set(used) <= {0, 1, 255}
    remark: Remark | None = BY_BRIGHTNESS
    if binary and not np.ptp(colors, axis=0).any() and alpha[0] != alpha[1]:
        remark, levels = IN_ALPHA, alpha.astype(float)
    elif len(used) and np.ptp(colors, axis=1).max() <= BLACK and _are_black_and_white(levels):
        levels = np.where(levels <= BLACK, 0, np.where(levels >= WHITE, 255, levels))
    elif binary and (dark := colors.max(1) <= DARK).sum() == 1:
        levels = np.where(dark, 0, 255)
    else:
        return indices, BY_INDEX if binary and levels[0] > levels[1] else None
    if ignored and (len(used) > 2 or (0 in ignored and 0 in present) or {1, 255} <= {*ignored}):
        return indices, None  # no gray edges beside values to ignore, and 0 or 1 and 255 cannot be taken then
    # Without a difference the indices stay.
    if (binary or (len(used) == 1 and used[0] in (0, 1, 255))) and ((levels > 127) == (used > 0)).all():
        return indices, None
    table = np.zeros(256, np.uint8)
    table[present] = present
    table[used] = np.rint(levels) if 255 not in ignored else levels > 127
    in_order = levels[0] <= levels[-1] if len(used) > 1 else (levels[0] > 127) == (used[0] > 0)
    return table[indices], None if in_order and remark is BY_BRIGHTNESS else remark


def is_black_elsewhere(picture: Image.Image) -> bool:
    """Whether index 0 of a palette is a color, and another index that is there is black."""
    colors = _colors(picture)[:, :3].max(1)
    present = np.flatnonzero(np.bincount(np.array(picture).ravel(), minlength=256))
    return bool(colors[0] > BLACK and (colors[present] <= BLACK).any())


def _are_black_and_white(levels: NDArray[np.float64]) -> bool:
    """Whether gray levels go from black to white, or a single one is black or white."""
    low, high = levels.min(), levels.max()
    return low <= BLACK and high >= WHITE if len(levels) > 1 else low <= BLACK or low >= WHITE


def _colors(picture: Image.Image) -> NDArray[np.uint8]:
    """(256, 4) the color and alpha of each index."""
    row = Image.frombytes("P", (256, 1), bytes(range(256)))
    row.putpalette(picture.getpalette() or [])
    if "transparency" in picture.info:
        row.info["transparency"] = picture.info["transparency"]
    return np.array(row.convert("RGBA"))[0]
