import csv

import numpy as np
import pytest

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.report.object_scores import ObjectRows, read_object_scores
from sam_ft.utils import distributed
from tests.support.pages_of_runs import ROWS, write_objects


def found(*ious):
    rows = [
        {"name": name, "object": 0, "label": 1, "input_side": 7.5, "area": 9, "iou": iou, "pred_iou": 0.5}
        for name, iou in zip("ba", ious, strict=True)
    ]
    return Evaluation({}, rows, {})


def test_zero_shot_stands_beside_the_last_improvement(tmp_path):
    path = tmp_path / "objects.csv"
    rows = ObjectRows(path)
    rows.write_zero_shot("box", found(0.1, 0.2))
    assert read_object_scores(path).models == ["zero_shot"]
    rows.write_tuned(found(0.3, 0.4))
    ObjectRows(path).write_tuned(found(0.5, 0.6))  # a run that resumes
    objects = read_object_scores(path)
    assert objects.names == ["a", "b"]
    assert objects.models == ["zero_shot", "tuned"]
    assert objects.columns["zero_shot_iou"].tolist() == [0.2, 0.1]
    assert objects.columns["tuned_iou"].tolist() == [0.6, 0.5]
    expected = {"area": 9.0, "input_side": 7.5, "zero_shot_pred_iou": 0.5, "tuned_pred_iou": 0.5}
    assert objects.row(1) == {"name": "b", "object": 0, "zero_shot_iou": 0.1, "tuned_iou": 0.5, **expected}
    (first, _) = csv.DictReader(path.read_text().splitlines())
    assert first["prompt"] == "box"


def test_a_name_of_bytes_that_are_no_text_is_kept(tmp_path):
    rows = ObjectRows(tmp_path / "objects.csv")
    rows.write_zero_shot("box", Evaluation({}, [{**found(0.1, 0.2).rows[0], "name": "caf\udce9"}], {}))
    rows.write_tuned(Evaluation({}, [{**found(0.3, 0.4).rows[0], "name": "caf\udce9"}], {}))
    objects = read_object_scores(tmp_path / "objects.csv")
    assert (objects.names, objects.columns["tuned_iou"].tolist()) == (["caf\udce9"], [0.3])


def test_a_run_that_an_older_version_began_gets_no_file(tmp_path):
    ObjectRows(tmp_path / "objects.csv").write_tuned(found(0.3, 0.4))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_warning(messages, tmp_path, caplog):
    (tmp_path / "objects.csv").mkdir()
    rows = ObjectRows(tmp_path / "objects.csv")
    rows.write_zero_shot("box", found(0.1, 0.2))
    rows.write_tuned(found(0.3, 0.4))
    assert len(caplog.records) == 1
    messages.check(caplog.messages[0], "objects.csv")


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    ObjectRows(tmp_path / "objects.csv").write_zero_shot("box", found(0.1, 0.2))
    assert not list(tmp_path.iterdir())


def test_the_objects_of_the_first_prompt_are_read(tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    write_objects(one, ROWS)
    write_objects(two, ROWS[:1], prompt="point")
    both = tmp_path / "both.csv"
    both.write_text(one.read_text() + two.read_text().split("\n", 1)[1])
    objects = read_object_scores(both)
    assert len(objects) == 4
    assert np.allclose(objects.columns["tuned_iou"], [row[-1] for row in ROWS])


@pytest.mark.parametrize("text", [None, "prompt,name,object\n"])
def test_no_file_and_no_rows_are_no_objects(tmp_path, text):
    if text is not None:
        (tmp_path / "objects.csv").write_text(text)
    objects = read_object_scores(tmp_path / "objects.csv")
    assert (len(objects), objects.models) == (0, [])
