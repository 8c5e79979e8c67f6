"""What learns: each adaptation takes a model and leaves exactly the trained parameters with requires_grad."""

from sam_ft.adapt.freeze import Freeze, freeze_unreached

__all__ = ["Freeze", "freeze_unreached"]
