"""A run's directory written by hand, and the parts of a page in HTML."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import torch
import yaml

from sam_ft.report.evaluation_files import CSV
from sam_ft.training.tensor_file import write_tensors

SETTINGS = {
    "format_version": 2,
    "name": "cells",
    "monitor": "iou",
    "epochs": 3,
    "report": {"names": True},
    "data": {"_target_": "sam_ft.data.sources.folder.Folder", "root": "/home/me/Doe_1970", "image_folder": "Doe"},
    "adapt": {"_target_": "sam_ft.adapt.Freeze", "train": ["mask_decoder.*"], "freeze": []},
}
ZERO_SHOT = {"iou": 0.4, "dice": 0.5, "pred_iou_spearman": None, "objects": 4, "images": 2}
BEST = {"iou": 0.65, "dice": 0.75, "pred_iou_spearman": 0.5, "objects": 4, "images": 2}
ROWS = [
    # image, object, area, zero-shot, tuned: their means are those above
    ("<script>alert(1)</script>", 0, 100, 0.2, 0.6),
    ("<script>alert(1)</script>", 1, 400, 0.4, 0.6),
    ("b", 0, 900, 0.5, 0.7),
    ("b", 1, 1600, 0.5, 0.7),
]


def write_run(directory: Path, rows=ROWS, settings=(), **progress) -> Path:
    """A finished run of two epochs, of which the second is the best."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, **dict(settings)}))
    state = {"zero_shot": ZERO_SHOT, "best": BEST, "best_epoch": 2, "epoch": 2, "mix": None, **progress}
    for name in ("best", "last"):
        path = directory / f"checkpoints/{name}.safetensors"
        write_tensors(path, {"weight": torch.zeros(1)}, {"model_type": "lite_medsam", "image_size": 256, **state})
    lines = [{"step": 0, "epoch": 0, "val/iou": 0.4}]
    for epoch, iou in ((1, 0.6), (2, 0.65)):
        lines.append({"step": epoch, "epoch": epoch, "lr": 0.1, "train/loss": 1 / epoch})
        lines.append({"step": epoch, "epoch": epoch, "val/iou": iou})
    (directory / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if rows:
        write_objects(directory / "objects.csv", rows)
    return directory


def write_objects(path: Path, rows, prompt="box") -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", **CSV) as file:
        writer = csv.writer(file)
        columns = ("iou", "pred_iou")
        models = [f"{model}_{column}" for model in ("zero_shot", "tuned") for column in columns]
        writer.writerow(["prompt", "name", "object", "label", "input_side", "area", *models])
        for name, number, area, before, after in rows:
            writer.writerow([prompt, name, number, 1, area**0.5, area, before, 0.5, after, 0.5])


class Page(HTMLParser):
    """The parts of a page.

    tables: rows of cells · facts: of lists of terms · texts: of elements, in order · tags: with their attributes
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tables, self.texts, self.tags, self.facts, self._open = [], [], [], {}, []
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        if inside in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif inside == "dt":
            self._term = data
        elif inside == "dd":
            self.facts[self._term] = data
        if data.strip():
            self.texts.append(data.strip())

    def verdict(self):
        start = self.source.index('<div class="verdict">')
        return self.source[start : self.source.index("</div>", start)]

    def pictures(self):
        return [attributes for tag, attributes in self.tags if tag == "img"]

    def cells(self, title):
        """The cells of the rows with that title in the first column."""
        return [row[1:] for table in self.tables for row in table if row[0] == title]
