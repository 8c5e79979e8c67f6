"""Heads on the image embedding that need no prompts."""

from sam_ft.models.heads.instance_head import InstanceHead
from sam_ft.models.heads.map_head import MapHead

__all__ = ["InstanceHead", "MapHead", "no_head"]


def no_head() -> None:
    """No head, for `head=none`."""
