"""Predict, correct, train again: the page of a run on the demo set, in Chromium."""

import json
from collections import Counter

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.app.test_start import serve_run
from tests.support.browser import drive, needs_browser
from tests.support.cli import SMALL

pytestmark = [pytest.mark.slow, needs_browser]

CHOSEN = ["cells_12", "cells_13"]  # of the validation images


def test_masks_of_the_demo_run_are_corrected_and_train_the_next_run(home, tmp_path, cli):
    run, page = tmp_path / "demo", tmp_path / "page"
    done = cli("train.py", *SMALL, f"run_dir={run}", "epochs=1")
    assert done.code == 0, done.err
    (demo,) = home.glob("demo-?")
    objects = {f"{name}.png": boxes_and_background(demo / f"instances/{name}.png") for name in CHOSEN}
    with serve_run(run, f"images={demo / 'images'}", f"output={page}") as client:
        seen = drive(client.server.address, scale=1, size=[256, 256], objects=objects)
    assert seen["problems"] == []
    for name in CHOSEN:
        step, boxes = seen["steps"][f"{name}.png"], objects[f"{name}.png"]["boxes"]
        assert (step["kept"], step["opened"], step["again"]) == (len(boxes), len(boxes) - 1, len(boxes))
        assert step["prompt"]["labels"] == [0]
        assert np.allclose(step["prompt"]["box"], boxes[0], atol=1)
        ids = Counter(tifffile.imread(page / f"training/masks/{name}.tif").flat)
        assert 1 < len(ids) <= 1 + len(boxes)  # a mask may lie below another one
    command = step["command"].split()
    assert command[:2] == ["sam-ft", "train"]
    again = tmp_path / "again"
    done = cli("train.py", *SMALL, *command[2:], f"run_dir={again}", "epochs=1")
    assert done.code == 0, done.err
    facts = json.loads((again / "facts.json").read_text())
    assert [facts[split]["images"] for split in ("train", "val")] == [1, 1]


def boxes_and_background(path):
    """The boxes of the objects of an image, without those at its border, and a place outside of all objects."""
    ids = np.array(Image.open(path))
    boxes = []
    for number in np.unique(ids[ids > 0]):
        y, x = np.nonzero(ids == number)
        corners = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
        if min(corners) > 2 and max(corners) < 254:
            boxes.append(corners)
    y, x = np.argwhere(ids[4:-4, 4:-4] == 0)[0] + 4
    return {"boxes": boxes, "background": [int(x), int(y)]}
