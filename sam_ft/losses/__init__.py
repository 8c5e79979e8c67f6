"""Losses: (Prediction, masks) -> {name: (M,)}, one number per object, so that the caller decides how to average.

`Combined` adds up parts. A part is a class with a `weight` and options of its own, called as (logits, masks, valid) ->
(M,). All three are (M, S, S) at the model's input side, logits float32, `masks` and `valid` bool. `valid` is true where
the input frame holds image, and false where nobody knows: such pixels teach nothing, in every part.
"""

from sam_ft.losses.combined import Combined
from sam_ft.losses.overlap import Dice, Iou, Lovasz, Tversky
from sam_ft.losses.pixelwise import Bce, BoundaryBce, Focal

__all__ = ["Bce", "BoundaryBce", "Combined", "Dice", "Focal", "Iou", "Lovasz", "Tversky"]
