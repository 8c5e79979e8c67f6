import json

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Box
from sam_ft.report.examples import choose_examples, draw_examples
from sam_ft.report.object_scores import ObjectScores
from sam_ft.task import PromptedSegmentation
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def objects(*ious):
    columns = {"object": np.arange(len(ious), dtype=float), "tuned_iou": np.array(ious, dtype=float)}
    return ObjectScores(["blobs_0"] * len(ious), columns)


@pytest.mark.parametrize(
    ("count", "low", "median", "high"),
    [
        (11, [0, 1, 2], [4, 5, 6], [8, 9, 10]),
        (9, [0, 1, 2], [3, 4, 5], [6, 7, 8]),
        (5, [0, 1], [2], [3, 4]),
        (2, [0], [], [1]),
        (1, [0], [], []),
    ],
)
def test_the_lowest_the_median_and_the_highest_are_chosen_and_none_twice(count, low, median, high):
    parts = choose_examples(objects(*(0.05 * number for number in range(count))))
    expected = {"lowest IoU": low, "median IoU": median, "highest IoU": high}
    assert {part: [row["object"] for row in rows] for part, rows in parts.items()} == {
        part: rows for part, rows in expected.items() if rows
    }


def test_each_object_has_a_picture_and_pictures_of_an_earlier_epoch_are_removed(tmp_path):
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "99.png").touch()
    task, dataset = PromptedSegmentation(tiny_sam()), EvaluationSet(Blobs([4]), 64)
    draw_examples(folder, task, dataset, Box(), choose_examples(objects(0.4, 0.1, 0.3, 0.2)), None)
    index = json.loads((folder / "examples.json").read_text())
    assert [(row["part"].split()[0], row["object"], row["tuned_iou"]) for row in index] == [
        ("lowest", 1, 0.1),
        ("lowest", 3, 0.2),
        ("highest", 2, 0.3),
        ("highest", 0, 0.4),
    ]
    assert {path.name for path in folder.iterdir()} == {"examples.json", "1.png", "2.png", "3.png", "4.png"}
    with Image.open(folder / "1.png") as picture:
        assert picture.width > picture.height > 100  # two cut-outs beside each other
