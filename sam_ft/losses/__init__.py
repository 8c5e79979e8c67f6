"""Losses: (Prediction, masks, valid) -> {name: (M,)}, one value per object, so that the caller decides how to average.

`Combined` is a weighted sum of terms. A term is a class with a `weight` and options of its own, called as (logits,
masks, valid) -> (M,). All three are (M, S, S) in the input frame, logits float32, `masks` (ground truth) and `valid`
bool. `valid` is false on padding and on pixels to ignore, which contribute to no term.
"""

from sam_ft.losses.combined import Combined
from sam_ft.losses.overlap import Dice, Iou, Lovasz, Tversky
from sam_ft.losses.pixelwise import Bce, BoundaryBce, Focal

__all__ = ["Bce", "BoundaryBce", "Combined", "Dice", "Focal", "Iou", "Lovasz", "Tversky"]
