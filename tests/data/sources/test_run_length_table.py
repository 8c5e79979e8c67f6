import logging

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.sources.table import Table
from sam_ft.types import dense

MASK = np.zeros((6, 8), bool)
MASK[1:4, 2:5] = True
MASK[5, 7] = True
# Worked out by hand: columns of 6 pixels from 1, so column 2 begins at 13 and row 1 of it is 14; rows of 8 pixels.
COLUMNS, ROWS = "14 3 20 3 26 3 48 1", "11 3 19 3 27 3 48 1"
WHOLE = "1 48"


def write(root, *lines, folder="train", header="ImageId,EncodedPixels", names="abcd", size=(6, 8)):
    (root / folder).mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        Image.fromarray(np.full(size, place, np.uint8)).save(root / folder / f"{name}.png")
    path = root / "train.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def read(path, **options):
    columns = {"image_column": "ImageId", "mask_column": "EncodedPixels", "val_fraction": 1}
    return Table(path, **{**columns, **options}).split("val")


@pytest.mark.parametrize(
    ("cell", "order"),
    [
        (COLUMNS, "columns"),
        (ROWS, "rows"),
        ("48 1 26 3 14 3 20 3", "columns"),
        ("  14  3 20 3 26 2 28 1 48 1 ", "columns"),
        ("14 3 20 3 26 3 27 2 48 1", "columns"),
        ("14.0 3.0 20.0 3.0 26.0 3.0 48.0 1.0", "columns"),
        ('"[14, 3, 20, 3, 26, 3, 48, 1]"', "columns"),
        ('"14,3,20,3,26,3,48,1"', "columns"),
    ],
)
def test_run_lengths_are_masks(tmp_path, cell, order):
    sample = read(write(tmp_path, f"a.png,{cell}"), run_order=order)[0]
    assert (dense(sample.masks).numpy() == MASK).all()
    assert sample.labels.tolist() == [1]


def test_each_row_is_an_object_and_an_empty_one_none(messages, tmp_path):
    path = write(tmp_path, f"a.png,{COLUMNS}", f"b,{COLUMNS}", f"a.png,{WHOLE}", "c.png,", "d.png,-1")
    split = read(path)
    assert split.names == ["a", "b", "c", "d"]
    survey = split.survey()
    assert (survey.objects, survey.empty) == (3, ["c", "d"])
    assert dense(split[0].masks).sum((1, 2)).tolist() == [10, 48]
    parts = read(path, objects="components", min_area=2)
    assert [len(parts[index].masks) for index in range(4)] == [2, 1, 0, 0]


@pytest.mark.parametrize("cell", ["", " -1", "-1.0", "NaN", "NA", "N/A", "None", "null", "[]", "0", "0 0"])
def test_a_cell_without_runs_is_empty(tmp_path, cell):
    assert read(write(tmp_path, f"a.png,{COLUMNS}", f"b.png,{cell}")).survey().empty == ["b"]


@pytest.mark.parametrize("folder", ["train", "train_images", "stage1_train/x/images", "."])
def test_the_images_are_found_in_a_folder_below(tmp_path, folder):
    assert read(write(tmp_path, f"a.png,{COLUMNS}", f"b.png,{WHOLE}", folder=folder)).survey().objects == 2


def test_labels_and_splits_are_columns(messages, tmp_path):
    header = "ImageId,EncodedPixels,split,label"
    lines = [f"a.png,{COLUMNS},train,crack", f"a.png,{WHOLE},train,rust", f"b.png,{WHOLE},val,rust", "c.png,,test,"]
    path = write(tmp_path, *lines, header=header)
    train, val = (Table(path, "ImageId", "EncodedPixels").split(name) for name in ("train", "val"))
    assert train.classes == val.classes == {1: "crack", 2: "rust"}
    assert train[0].labels.tolist() == [1, 2]
    assert val.names == ["b"]
    path.write_text(path.read_text() + f"a.png,{WHOLE},val,rust\n")
    messages.refusal(lambda: Table(path, "ImageId", "EncodedPixels").split("val"), "line 6: a.png", "line 2")


def test_all_faults_are_listed_in_one_error(messages, tmp_path):
    lines = [f"{name}.png,{WHOLE}" for name in "abcd"]
    bad = ["a.png,1 49", "a.png,0 3", "b.png,1 2 3", "b.png,no", f"c.png,{'9' * 30} 1"]
    facts = ["5 of 9 annotations", "line 6", "line 10"]
    messages.refusal(read(write(tmp_path, *lines, *bad)).survey, *facts)
    (tmp_path / "train/d.png").write_bytes(b"")
    messages.refusal(read(tmp_path / "train.csv").survey, "1 of 4 images", "d.png")
    (tmp_path / "train/d.png").unlink()
    messages.refusal(lambda: read(tmp_path / "train.csv"), "line 5: ", "d.png")
    issues = []
    Table(tmp_path / "train.csv", "ImageId", "EncodedPixels", val_fraction=1).usable_split("val", issues)
    assert [issue.level for issue in issues].count("error") == 6


@pytest.mark.parametrize(
    "options",
    [
        {"objects": "instances"},
        {"ignore_index": 255},
        {"run_order": "diagonal"},
        {"page": 0},
        {"background": 0},
        {"projection": "max"},
        {"channels": [0]},
        {"invert": True},
    ],
)
def test_settings_of_mask_files_are_refused(messages, tmp_path, options):
    path = write(tmp_path, f"a.png,{COLUMNS}")
    messages.refusal(lambda: read(path, **options), f"data.{next(iter(options))}")


@pytest.mark.parametrize(("order", "level"), [("columns", "note"), ("rows", "warning")])
def test_the_order_is_logged_and_checked_against_the_runs(messages, tmp_path, caplog, order, level):
    cell = " ".join(f"{30 * column + 5} 12" for column in range(3, 20))
    path = write(tmp_path, *(f"{name}.png,{cell}" for name in "abcd"), size=(30, 50))
    table = Table(path, "ImageId", "EncodedPixels", run_order=order)
    with caplog.at_level(logging.INFO, logger="sam_ft"):
        table.split("train")
    messages.logged(caplog, f"{path}: ", f"data.run_order={order}")
    issues = []
    table.usable_split("val", issues)
    assert [issue.level for issue in issues] == [level]


def test_runs_that_overlap_in_most_rows_are_warned_of(messages, tmp_path, caplog):
    """As where each start is counted from the end of the last run."""
    relative = "14 3 3 3 3 3"
    path = write(tmp_path, f"a.png,{relative}", f"b.png,{relative}", f"c.png,{COLUMNS}")
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        Table(path, "ImageId", "EncodedPixels").split("train")
    messages.logged(caplog, f"{path}: ", "2 of 3 rows")
