"""The evaluation of a run, and of weights without one."""

import json

import numpy as np
import pytest
from PIL import Image

from sam_ft import Predictor
from tests.conftest import of
from tests.support.blobs import write_folder
from tests.support.run_files import metrics_lines


@pytest.fixture
def evaluated(run, tmp_path, cli):
    """The folder that evaluate.py writes for `run`."""
    done = cli("evaluate.py", f"run={run}", "workers=0", "pictures=2", f"output={tmp_path / 'evaluation'}")
    assert done.code == 0, done.err
    assert "3 images with 9 objects" in done.out
    return tmp_path / "evaluation"


@pytest.mark.slow
def test_evaluate_scores_both_as_training_did(run, evaluated):
    scores = json.loads((evaluated / "scores.json").read_text())
    progress = metrics_lines(run)
    best = max((line for line in progress if "val/iou" in line), key=lambda line: line["val/iou"])
    for which, line in (("zero_shot", progress[0]), ("tuned", best)):
        for name in ("iou", "dice", "iou_per_image", "objects"):
            assert scores[which][name] == line[f"val/{name}"], (which, name)
    rows = (evaluated / "objects.csv").read_text().splitlines()
    assert len(rows) == 1 + 9
    assert rows[0].startswith("prompt,name,object,label,input_side,area,zero_shot_iou,zero_shot_dice")
    assert (evaluated / "worst_and_best.png").stat().st_size > 1000


def test_evaluate_without_a_run_takes_model_data_and_checkpoint(run, blobs, tmp_path, cli):
    common = ["model=lite_medsam", "model.image_size=64", *of(blobs), "workers=0", "pictures=0", f"output={tmp_path}"]
    assert cli("evaluate.py", *common, f"checkpoint={run / 'checkpoints/best.safetensors'}").code == 0
    both = json.loads((tmp_path / "scores.json").read_text())
    assert both["zero_shot"]["iou"] != both["tuned"]["iou"]
    assert cli("evaluate.py", *common).code == 0
    assert "tuned" not in json.loads((tmp_path / "scores.json").read_text())


@pytest.mark.parametrize(
    ("override", "fact"),
    [
        ("eval_batch_size=0", "1"),
        ("eval_chunk=2.5", "1"),
        ("workers=-1", "0"),
        ("pictures=-1", "0"),
        ("split=test", "train or val"),
        ("output=LICENSE/scores", "Not a directory"),
    ],
)
def test_evaluate_refuses_before_it_scores(messages, run, cli, override, fact):
    done = cli("evaluate.py", f"run={run}", override)
    assert done.out == ""
    messages.refused(done, 2, f"error: {override}", fact)
    assert len(done.err.splitlines()) == 1


def test_evaluate_lists_all_bad_masks_together(messages, run, tmp_path, cli):
    folder = write_folder(tmp_path / "cells", [2] * 6)
    for name in ("blobs_4", "blobs_5"):
        (folder / f"instances/{name}.png").write_bytes(b"no picture")
    done = cli("evaluate.py", f"run={run}", f"+data.root={folder}", f"output={tmp_path / 'out'}")
    messages.refused(done, 3, "blobs_4.png", "blobs_5.png")


def test_the_predictor_of_a_run_gives_the_masks_that_were_scored(run, blobs, evaluated):
    header, *rows = (evaluated / "objects.csv").read_text().splitlines()
    header = header.split(",")
    predictor = Predictor.from_run(run)
    for row in rows:
        values = dict(zip(header, row.split(","), strict=True))
        image = np.asarray(Image.open(blobs / f"images/{values['name']}.png"))
        mask = np.asarray(Image.open(blobs / f"instances/{values['name']}.png")) == int(values["object"]) + 1
        y, x = np.nonzero(mask)
        masks, scores, _ = predictor.predict(image, boxes=[[x.min(), y.min(), x.max() + 1, y.max() + 1]])
        iou = (masks[0, 0] & mask).sum() / (masks[0, 0] | mask).sum()
        assert iou == pytest.approx(float(values["tuned_iou"]), abs=1e-6)
        assert scores[0, 0] == pytest.approx(float(values["tuned_pred_iou"]), abs=1e-4)
