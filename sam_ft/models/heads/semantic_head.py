"""The head that predicts the class of each pixel without prompts."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sam_ft.models.heads.map_head import MapHead
from sam_ft.types import OBJECT

BACKGROUND = "background"  # the name of channel 0


class SemanticHead(MapHead):
    """Predicts background or a class for each pixel, as logits of a softmax over channels; 0 is the background.

    components: an object is a connected component of a class; else all pixels of a class in an image are one
    min_area: pixels of a component; smaller ones are background

    labels: of the classes of channels 1, 2, ...; empty where the data have none: all objects are in channel 1
    """

    name = "semantic_head"

    def __init__(self, components: bool = True, min_area: int = 0) -> None:
        super().__init__(out_channels=2)
        if min_area < 0:
            raise ValueError(f"min_area={min_area}; expected at least 0 pixels")
        self.components = components
        self.min_area = min_area
        self.labels: tuple[int, ...] = ()

    def set_classes(self, classes: Mapping[int, str]) -> None:
        """Gives the output a channel for each class. classes: {label: name} of the data; empty if they have none"""
        self.labels = tuple(sorted(classes))
        self.classes = {label: classes[label] for label in self.labels} or OBJECT
        if self.out.out_channels != 1 + len(self.classes):
            self.out = nn.Conv2d(self.out.in_channels, 1 + len(self.classes), 1)

    @property
    def channel_names(self) -> list[str]:
        """The names of background and classes; those that occur twice have their label in parentheses."""
        counts = Counter([BACKGROUND, *self.classes.values()])
        names = (f"{name} ({label})" if counts[name] > 1 else name for label, name in self.classes.items())
        return [BACKGROUND, *names]

    def loss(self, logits: Tensor, maps: Tensor) -> Tensor:
        """Cross-entropy, plus the mean of the Dice loss over the classes that are in the image, without the background.

        logits: (B, C, 4s, 4s) · maps: (B, 1, 4s, 4s) the channel of each cell, nan where it does not count → (B,)
        """
        valid = maps[:, 0].isfinite()
        target = maps[:, 0].nan_to_num().long()
        cross_entropy = F.cross_entropy(logits, target, reduction="none") * valid
        mean = cross_entropy.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
        gt = F.one_hot(target, logits.shape[1])[..., 1:].movedim(-1, 1) * valid[:, None]
        predicted = logits.softmax(dim=1)[:, 1:] * valid[:, None]
        overlap = 2 * (predicted * gt).sum(dim=(2, 3)) + 1
        areas = gt.sum(dim=(2, 3))
        dice = 1 - overlap / (predicted.sum(dim=(2, 3)) + areas + 1)  # (B, C - 1)
        present = areas > 0
        return mean + (dice * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)

    def notes(self) -> dict[str, Any]:
        """All that `from_notes` needs to make the same head, with other weights; JSON values."""
        classes = {str(label): self.classes[label] for label in self.labels}
        return {"classes": classes, "components": self.components, "min_area": self.min_area}

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> "SemanticHead":
        head = cls(notes["components"], notes["min_area"])
        head.set_classes({int(label): name for label, name in notes["classes"].items()})
        return head
