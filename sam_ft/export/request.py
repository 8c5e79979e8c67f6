"""The input of every export: the tuned model, a name that changes with its weights, and the folder to write."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_ft.models import Sam
from sam_ft.utils.files import sha256, write_atomic

DIGITS = 8  # of the digest in a name


@dataclass(frozen=True)
class ExportRequest:
    """A tuned model and where to write it.

    model: base weights with the learned ones on top · run: its directory · folder: to write into
    name: TYPE_RUN_DIGEST, see `export_name` · notes: metadata of the checkpoint, with its scores
    """

    model: Sam
    run: Path
    folder: Path
    name: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def write_text(self, name: str, text: str) -> Path:
        path = self.folder / name
        write_atomic(path, text)
        return path

    def write_readme(self, files: list[Path], usage: str, with_head: bool = False) -> Path:
        """Writes README.md: the files, the scores of the model, and the lines that load it.

        with_head: the files hold the head of the model, if it has one
        """
        listed = "\n".join(f"- `{file.name}` ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
        blocks = [f"# {self.name}", self.description(with_head), listed, usage.strip()]
        return self.write_text("README.md", "\n\n".join(blocks) + "\n")

    def description(self, with_head: bool = False) -> str:
        """The model and its scores in some sentences."""
        sentences = [f"{self.model.model_type} at {self.model.image_size} px, tuned by sam-ft."]
        if scores := ", ".join(f"{name} {before:.3f} → {after:.3f}" for name, before, after in self.scores()):
            sentences.append(f"On its validation images, zero-shot → tuned: {scores}.")
        if self.model.head is not None and not with_head:
            sentences.append("Without its head: this format has no place for it.")
        return " ".join(sentences)

    def scores(self) -> list[tuple[str, float, float]]:
        """(name, zero-shot, tuned) of the scores in the notes."""
        zero_shot, best = self.notes.get("zero_shot") or {}, self.notes.get("best") or {}
        return [(name, zero_shot[name], best[name]) for name in ("iou", "dice") if name in zero_shot and name in best]


def export_name(model_type: str, run: Path, checkpoint: Path) -> str:
    """TYPE_RUN_DIGEST: other weights have another name, since some programs cache files by their name.

    X-AnyLabeling reads only names of ASCII letters, digits, dots, dashes and underscores.
    """
    return f"{model_type}_{re.sub(r'[^A-Za-z0-9._-]+', '_', run.resolve().name)}_{sha256(checkpoint)[:DIGITS]}"
