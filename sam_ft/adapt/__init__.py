"""Adaptations: each takes a model and leaves exactly the parameters that learn with requires_grad."""

from sam_ft.adapt.freeze import Freeze
from sam_ft.adapt.last_blocks import LastBlocks
from sam_ft.adapt.lora import Lora
from sam_ft.adapt.unreached import freeze_unreached

__all__ = ["Freeze", "LastBlocks", "Lora", "freeze_unreached"]
