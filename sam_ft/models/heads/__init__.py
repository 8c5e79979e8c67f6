"""Heads on the image embedding that need no prompts."""

from sam_ft.models.heads.instance_head import InstanceHead
from sam_ft.models.heads.map_head import MapHead

__all__ = ["InstanceHead", "MapHead", "in_head", "no_head"]


def no_head() -> None:
    """No head, for `head=none`."""


def in_head(name: str) -> bool:
    """Whether a parameter of a model is one of a head, by its name."""
    return name.startswith(f"{InstanceHead.name}.")
