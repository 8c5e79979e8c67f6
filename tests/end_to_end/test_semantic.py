"""A head that finds classes without prompts, from id masks to the files of predict.py."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import load_file

from sam_ft import Predictor
from sam_ft.data.sources.coco import Coco
from sam_ft.models.heads import in_head
from sam_ft.training.tensor_file import read_tensors
from sam_ft.types import dense
from tests.support.cli import SMALL, call_once
from tests.support.shapes import CLASSES, OPTION, write_shapes

FAST = ["head=semantic", "epochs=5", "batch_size=1", "optimizer.head_lr_factor=100"]
BEST = "checkpoints/best.safetensors"


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", 12, 4)


@pytest.fixture(scope="module")
def settings(shapes, run, tmp_path_factory):
    """Of a head for three classes that learns alone, on top of a run, which is faster."""
    data = ["data=folder", f"data.root={shapes}", "data.objects=classes", OPTION]
    directory = tmp_path_factory.mktemp("semantic") / "run"
    return [*SMALL, *data, *FAST, "train_only=head", f"init={run}", f"run_dir={directory}"]


@pytest.fixture(scope="module")
def trained(settings):
    """The directory of that run, and its output."""
    done = call_once("train.py", *settings)
    return Path(settings[-1].removeprefix("run_dir=")), done.out


@pytest.mark.slow
def test_a_table_has_the_iou_of_each_class_beside_the_majority_class(trained):
    directory, out = trained
    last = rows(directory)[-1]
    _, metadata = read_tensors(directory / BEST)
    assert metadata["majority"] == 0
    for name in ("background", *CLASSES):
        line = next(line for line in out.splitlines() if line.strip().startswith(f"IoU {name} "))
        assert [float(cell) for cell in line.split("|")[1:3]] == pytest.approx(
            [last[f"baseline/class_iou/{name}"], last[f"head/class_iou/{name}"]], abs=1e-4
        )
        assert last[f"head/class_iou/{name}"] > last[f"baseline/class_iou/{name}"]
    assert last["head/miou"] > 0.6 > last["baseline/miou"]
    assert "no better" not in out


def test_the_epoch_of_the_best_head_is_kept(trained):
    scores = {row["epoch"]: row["val/miou"] for row in rows(trained[0]) if "val/miou" in row}
    _, metadata = read_tensors(trained[0] / BEST)
    assert metadata["best_epoch"] == max(scores, key=scores.get) > 0
    assert metadata["monitor"] == "miou"
    assert metadata["semantic_head"] == {
        "classes": {"1": "disc", "5": "square", "200": "ring"},
        "components": True,
        "min_area": 16,
    }


def test_only_the_head_has_learned(trained, run):
    before, after = load_file(run / BEST), load_file(trained[0] / BEST)
    assert before.keys() == {name for name in after if not in_head(name)} < after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.slow
def test_a_start_after_the_end_scores_nothing_again(trained, settings, cli):
    before = (trained[0] / BEST).read_bytes(), rows(trained[0])
    done = cli("train.py", *settings)
    assert done.code == 0, done.err
    assert ((trained[0] / BEST).read_bytes(), rows(trained[0])) == before
    assert "IoU square" in done.out


def test_an_evaluation_scores_the_classes_that_predict_writes(trained, shapes, tmp_path, cli):
    done = cli("evaluate.py", f"run={trained[0]}", "auto=true", "workers=0", "pictures=0", f"output={tmp_path}")
    assert done.code == 0, done.err
    assert "IoU square" in done.out
    scores = json.loads((tmp_path / "scores.json").read_text())["auto"]
    last = rows(trained[0])[-1]
    for which in ("head", "baseline"):
        assert scores[which] == pytest.approx({name: last[f"{which}/{name}"] for name in scores[which]}, abs=1e-6)


def test_the_files_of_predict_have_the_classes(trained, shapes, tmp_path, cli):
    out, image = tmp_path / "out", shapes / "images/shapes_11.png"
    formats = "save=[labels,coco,overlay,table,geojson,yolo,labelme,rois]"
    done = cli("predict.py", f"run={trained[0]}", f"images={image}", f"output={out}", formats)
    assert done.code == 0, done.err
    predictor = Predictor.from_run(trained[0])
    masks, scores, labels = predictor.segment(image)
    assert len(masks) > 2
    read = tifffile.imread(out / "labels/shapes_11.tif")
    assert np.array_equal(read, (masks * (np.arange(len(masks)) + 1)[:, None, None]).sum(0))
    names = [predictor.classes[label] for label in labels.tolist()]
    with open(out / "table/shapes_11.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == names
    assert [float(row["score"]) for row in table] == pytest.approx(scores.tolist())
    geojson = json.loads((out / "geojson/shapes_11.geojson").read_text())
    assert {one["properties"]["classification"]["name"] for one in geojson["features"]} == set(names)
    labelme = json.loads((out / "labelme/shapes_11.json").read_text())
    assert {one["label"] for one in labelme["shapes"]} == set(names)
    assert all(name in (out / "yolo/data.yaml").read_text() for name in CLASSES)
    # The COCO file, as training reads it.
    (tmp_path / "train").symlink_to(shapes / "images")
    (out / "coco.json").rename(tmp_path / "train.json")
    split = Coco(tmp_path).split("train")
    split.survey()
    assert split.classes == {1: "disc", 5: "square", 200: "ring"}
    assert split[0].labels.tolist() == labels.tolist()
    assert torch.equal(dense(split[0].masks), torch.from_numpy(masks))


def test_classes_are_not_refined(trained, shapes, tmp_path, messages, cli):
    done = cli("predict.py", f"run={trained[0]}", f"images={shapes / 'images'}", f"output={tmp_path}", "refine=decoder")
    assert done.code == 2
    messages.check(done.err, "refine=decoder", "head=semantic")


@pytest.mark.slow
@pytest.mark.parametrize("tile", ["null", "48"])
def test_a_whole_mask_is_one_object_an_image(shapes, tmp_path, cli, tile):
    directory = tmp_path / "run"
    whole = ["data=folder", f"data.root={shapes}", "data.mask_folder=binary", "data.objects=whole", f"data.tile={tile}"]
    done = cli("train.py", *SMALL, *whole, *FAST, "monitor=miou", f"run_dir={directory}")
    assert done.code == 0, done.err
    metadata = read_tensors(directory / BEST)[1]
    assert metadata["semantic_head"] == {"classes": {}, "components": False, "min_area": 16}
    last = rows(directory)[-1]
    assert last["head/class_iou/object"] > 0.6 > last["baseline/class_iou/object"] == 0
    assert last["head/miou"] > last["baseline/miou"] > 0.3
    predictor = Predictor.from_run(directory)
    masks, _, labels = predictor.segment(shapes / "images/shapes_11.png")
    assert (len(masks), labels.tolist(), dict(predictor.classes)) == (1, [1], {1: "object"})
