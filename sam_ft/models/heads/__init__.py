"""Heads on the image embedding that need no prompts."""

from collections.abc import Iterable, Mapping
from typing import Any

from sam_ft.models.heads.instance_head import InstanceHead
from sam_ft.models.heads.map_head import MapHead
from sam_ft.models.heads.semantic_head import SemanticHead

__all__ = ["InstanceHead", "MapHead", "SemanticHead", "head_from_notes", "head_notes", "in_head", "no_head"]

NOTES = "semantic_head"  # in the metadata of a checkpoint


def no_head() -> None:
    """No head, for `head=none`."""


def in_head(name: str) -> bool:
    """Whether a parameter of a model is one of a head, by its name."""
    return name.startswith((f"{InstanceHead.name}.", f"{SemanticHead.name}."))


def head_notes(head: MapHead | None) -> dict[str, Any]:
    """The entries of a checkpoint's metadata from which `head_from_notes` makes the same head."""
    return {NOTES: head.notes()} if isinstance(head, SemanticHead) else {}


def head_from_notes(names: Iterable[str], metadata: Mapping[str, Any]) -> MapHead | None:
    """The head, with random weights, of a checkpoint with these parameters and metadata; None if it has none."""
    if not any(map(in_head, names)):
        return None
    return SemanticHead.from_notes(metadata[NOTES]) if metadata.get(NOTES) else InstanceHead()
