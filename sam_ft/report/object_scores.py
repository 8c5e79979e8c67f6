"""objects.csv of a run or an evaluation: the scores of each validation object, zero-shot beside tuned."""

import csv
import logging
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

import numpy as np

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.report.evaluation_files import CSV, OBJECT_COLUMNS, join_rows, write_rows
from sam_ft.utils import distributed
from sam_ft.utils.disk import OptionalFiles
from sam_ft.utils.files import atomic_path

log = logging.getLogger("sam_ft")

READ = ("object", "area", "input_side", *(f"{m}_{s}" for m in ("zero_shot", "tuned") for s in ("iou", "pred_iou")))


@dataclass
class ObjectScores:
    """names: of the image or tile of each object · columns: those of `READ` that the file has, (N,) float64 each.

    prompt: by which they were predicted
    """

    names: list[str] = field(default_factory=list)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    prompt: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def models(self) -> list[str]:
        """ "zero_shot" and "tuned", those that were scored."""
        return [model for model in ("zero_shot", "tuned") if f"{model}_iou" in self.columns]

    def row(self, index: int) -> dict:
        """Of one object, as `join_rows` gives it."""
        values = {name: column[index].item() for name, column in self.columns.items()}
        return {**values, "name": self.names[index], "object": int(values["object"])}


def read_object_scores(path: Path) -> ObjectScores:
    """The objects of the first prompt of a file; none if there is no file, or, with a warning, a damaged one."""
    if not path.is_file():
        return ObjectScores()
    try:
        return _parse_objects(path)
    except (OSError, ValueError, TypeError, KeyError, csv.Error):  # TypeError: a row with fewer cells
        log.warning("%s: is damaged; the report leaves its objects out", path)
        return ObjectScores()


def _parse_objects(path: Path) -> ObjectScores:
    """Raises: OSError, ValueError, TypeError, KeyError, csv.Error"""
    with open(path, **CSV) as file:
        rows = csv.DictReader(file)
        found = [name for name in READ if name in (rows.fieldnames or ())]
        names: list[str] = []
        values = {name: array("d") for name in found}  # a row of its own for each object would take 20 times the memory
        prompt = ""
        for row in rows:
            prompt = prompt or row["prompt"]
            if row["prompt"] == prompt:
                names.append(intern(row["name"]))
                for name in found:
                    values[name].append(float(row[name] or "nan"))
    return ObjectScores(names, {name: np.array(column) for name, column in values.items()} if names else {}, prompt)


def _replace_tuned(path: Path, rows: Mapping[tuple[str, str], dict]) -> None:
    """Writes a file anew a row at a time, with other scores of the tuned model. rows: by name and object"""
    with (
        atomic_path(path) as temporary,
        open(path, **CSV) as old,
        open(temporary, "w", **CSV) as new,
    ):
        before = csv.DictReader(old)
        scores = [name for name in next(iter(rows.values()), {}) if name not in OBJECT_COLUMNS]
        kept = [name for name in before.fieldnames or () if not name.startswith("tuned_")]
        writer = csv.writer(new)
        writer.writerow([*kept, *(f"tuned_{name}" for name in scores)])
        for row in before:
            tuned = rows.get((row["name"], row["object"]), {})
            writer.writerow([*(row[name] for name in kept), *(tuned.get(name) for name in scores)])


class ObjectRows:
    """Writes objects.csv of a run: zero-shot at its start, the best weights at each improvement.

    Zero-shot scores are read back from the file, so that a run that resumes has them too, and none are kept in memory.
    All processes call both methods; the main one writes. A full disk is one warning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = OptionalFiles("the report will lack objects")

    def write_zero_shot(self, prompt: str, found: Evaluation) -> None:
        rows = join_rows({prompt: {"zero_shot": found}})
        self._on_main(lambda: write_rows(self._path, rows))

    def write_tuned(self, found: Evaluation) -> None:
        """Adds the scores of the best weights so far, in place of those before."""
        rows = {(row["name"], str(row["object"])): row for row in distributed.all_gather(found.rows)}
        if self._path.exists():  # not where an older version began the run
            self._on_main(lambda: _replace_tuned(self._path, rows))

    def _on_main(self, write: Callable[[], None]) -> None:
        if distributed.is_main():
            self._file.write(self._path, write)
