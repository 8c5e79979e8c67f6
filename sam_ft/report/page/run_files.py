"""Reads the files of a run's directory for its report; files that an older run lacks are empty."""

import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_ft.report.object_scores import ObjectScores, read_object_scores
from sam_ft.training.tensor_file import read_metadata
from sam_ft.utils.plain_yaml import read_plain_yaml

log = logging.getLogger("sam_ft")

TIME = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?=[A-Z]+ )")
MODEL_LINE = re.compile(r" at \d+ px on ")  # the first line of the log that is not about the data


@dataclass
class RunFiles:
    """The content of a run's directory.

    settings: config.yaml · progress: fields of `TrainState`, or those of them that the partial checkpoint has
    steps, epochs: the lines of metrics.jsonl with a loss, and with scores · objects: objects.csv · facts: facts.json
    log: lines of train.log about the data · evaluations: each scores.json, by the name of its folder
    examples: examples.json
    """

    directory: Path
    settings: dict[str, Any]
    progress: dict[str, Any] = field(default_factory=dict)
    steps: list[dict] = field(default_factory=list)
    epochs: list[dict] = field(default_factory=list)
    others: list[dict] = field(default_factory=list)
    objects: ObjectScores = field(default_factory=ObjectScores)
    facts: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    evaluations: dict[str, dict] = field(default_factory=dict)
    examples: list[dict] = field(default_factory=list)

    @property
    def monitor(self) -> str:
        return str(self.settings.get("monitor", "iou"))


def read_run_files(directory: Path) -> RunFiles:
    """Raises: CheckpointError, ConfigError"""
    checkpoints = [directory / f"checkpoints/{name}.safetensors" for name in ("best", "last")]
    progress: dict[str, Any] = {}
    for path in checkpoints:  # the training state last: it has more, and the partial checkpoint may be all that is kept
        progress |= read_metadata(path) if path.exists() else {}
    rows = read_json_lines(directory / "metrics.jsonl")
    objects = read_object_scores(directory / "objects.csv")
    return RunFiles(
        directory,
        read_settings(directory),
        progress,
        steps=[row for row in rows if "train/loss" in row],
        epochs=[row for row in rows if "val/iou" in row],
        others=[row for row in rows if "train/loss" not in row and "val/iou" not in row],
        objects=objects if len(objects) else read_object_scores(directory / "evaluation/objects.csv"),
        facts=_read_json(directory / "facts.json", {}),
        log=_data_lines(directory / "train.log"),
        evaluations=_read_evaluations(directory),
        examples=_read_json(directory / "samples/objects/examples.json", []),
    )


def read_settings(directory: Path) -> dict[str, Any]:
    """config.yaml, which may come from somebody else. Raises: ConfigError: it holds more than plain values."""
    path = directory / "config.yaml"
    settings = read_plain_yaml(path) if path.is_file() else {}
    return {str(key): value for key, value in settings.items()} if isinstance(settings, dict) else {}


def read_json_lines(path: Path) -> list[dict]:
    """The objects of a file, one a line; a line that a crash left incomplete is left out."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return [row for row in rows if isinstance(row, dict)]


def _read_json(path: Path, default: Any) -> Any:
    """The content of a file, of the type of `default`, which takes the place of a missing or damaged one."""
    if not path.is_file():
        return default
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if isinstance(found, type(default)):
        return found
    log.warning("%s: is damaged; the report leaves it out", path)
    return default


def _read_evaluations(directory: Path) -> dict[str, dict]:
    found = {path.parent.name: _read_json(path, {}) for path in sorted(directory.glob("evaluation*/scores.json"))}
    return {name: scores for name, scores in found.items() if "prompt" in scores}


def _data_lines(path: Path) -> list[str]:
    """The log of the first start up to the line about the model: what was found in the data."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        if MODEL_LINE.search(line):
            break
        found.append(TIME.sub("", line).removeprefix("INFO "))
    return list(dict.fromkeys(found))  # a start that was repeated says the same again
