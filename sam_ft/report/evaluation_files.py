"""The files of an evaluation: scores.json and objects.csv."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.utils import distributed
from sam_ft.utils.files import as_json, atomic_path, write_atomic

# Names of files may hold bytes that are no text.
CSV: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
OBJECT_COLUMNS = ("name", "object", "label", "input_side", "area")  # of an object, whichever model predicts it

Results = Mapping[str, Mapping[str, Evaluation]]  # by prompt, then "zero_shot" and "tuned"


def join_rows(results: Results) -> list[dict]:
    """One row per prompt and object of all processes: zero-shot beside tuned, in order of image and object."""
    rows: dict[tuple, dict] = {}
    for place, (prompt, result) in enumerate(results.items()):
        for which, evaluation in result.items():
            # A key without the model: the row of an object receives its zero-shot and its tuned columns.
            for row in distributed.all_gather(evaluation.rows):
                common = {"prompt": prompt, **{key: row[key] for key in OBJECT_COLUMNS if key in row}}
                own = rows.setdefault((place, row["name"], row["object"]), common)
                own |= {f"{which}_{key}": value for key, value in row.items() if key not in OBJECT_COLUMNS}
    return [rows[key] for key in sorted(rows)]


def write_scores(
    path: Path,
    facts: Mapping[str, object],
    results: Results,
    amg: Mapping[str, object],
    auto: Mapping[str, object] = {},
) -> None:
    """scores.json: facts about the evaluation, the scores of the first prompt, those of all, and of masks without.

    amg: of the point grid · auto: of a head, beside those of its baseline
    """
    prompts = {
        name: {which: {**evaluation.scores, "groups": evaluation.groups} for which, evaluation in result.items()}
        for name, result in results.items()
    }
    # The scores of the first prompt stand at the top too, in the same place for one prompt and for several.
    scores = {**facts, "prompt": next(iter(prompts)), **next(iter(prompts.values()))}
    scores |= {"prompts": prompts} if len(prompts) > 1 else {}
    scores |= {"amg": amg} if amg else {}
    scores |= {"auto": auto} if auto else {}
    write_atomic(path, as_json(scores, indent=2) + "\n")


def write_rows(path: Path, rows: Sequence[dict]) -> None:
    """objects.csv, with empty cells where a prompt lacks a column of another one, as those of clicks."""
    columns = list(dict.fromkeys(key for row in rows for key in row))  # all columns in the order of their first row
    with atomic_path(path) as temporary, open(temporary, "w", **CSV) as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
