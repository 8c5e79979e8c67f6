import csv
import json
import math

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.report.evaluation_files import join_rows, write_rows, write_scores


def row(name, number, iou, **more):
    return {"name": name, "object": number, "label": 1, "area": 9, "iou": iou, **more}


def evaluation(*rows, iou=0.5):
    return Evaluation({"iou": iou, "hd95": math.nan}, list(rows), {"class": {"cell": {"objects": 2, "iou": iou}}})


RESULTS = {
    "box": {
        "zero_shot": evaluation(row("b", 0, 0.1), row("a", 1, 0.2), row("a", 0, 0.3)),
        "tuned": evaluation(row("a", 0, 0.6), row("a", 1, 0.7), row("b", 0, 0.8), iou=0.7),
    },
    "clicks": {"zero_shot": evaluation(row("a", 0, 0.4, iou_click_1=0.4))},
}


def test_rows_have_zero_shot_beside_tuned_in_order_of_prompt_image_and_object():
    rows = join_rows(RESULTS)
    assert [(r["prompt"], r["name"], r["object"]) for r in rows] == [
        ("box", "a", 0),
        ("box", "a", 1),
        ("box", "b", 0),
        ("clicks", "a", 0),
    ]
    common = {"prompt": "box", "name": "a", "object": 0, "label": 1, "area": 9}
    assert rows[0] == {**common, "zero_shot_iou": 0.3, "tuned_iou": 0.6}


def test_a_column_that_a_prompt_lacks_is_empty(tmp_path):
    write_rows(tmp_path / "objects.csv", join_rows(RESULTS))
    rows = list(csv.DictReader((tmp_path / "objects.csv").read_text().splitlines()))
    assert [r["zero_shot_iou_click_1"] for r in rows] == ["", "", "", "0.4"]
    assert [r["tuned_iou"] for r in rows] == ["0.6", "0.7", "0.8", ""]


def test_scores_hold_the_first_prompt_all_prompts_and_automatic_masks(tmp_path):
    path = tmp_path / "scores.json"
    write_scores(path, {"split": "val"}, RESULTS, {"zero_shot": {"ap50": 0.25}})
    scores = json.loads(path.read_text())
    assert (scores["split"], scores["prompt"]) == ("val", "box")
    assert scores["tuned"] == {"iou": 0.7, "hd95": None, "groups": {"class": {"cell": {"objects": 2, "iou": 0.7}}}}
    assert scores["prompts"]["box"]["tuned"] == scores["tuned"]
    assert list(scores["prompts"]) == ["box", "clicks"]
    assert scores["amg"] == {"zero_shot": {"ap50": 0.25}}


def test_a_single_prompt_has_no_list_of_prompts(tmp_path):
    path = tmp_path / "scores.json"
    write_scores(path, {}, {"box": RESULTS["box"]}, {})
    assert set(json.loads(path.read_text())) == {"prompt", "zero_shot", "tuned"}
