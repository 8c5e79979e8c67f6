import csv

import numpy as np
import pytest
import torch
from skimage.measure import regionprops_table

from sam_ft.writers.table import COLUMNS, SHAPE_COLUMNS, merge_tables, write_table
from tests.support.instances import CLASSES, hard_masks, make_instances, no_masks


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_scikit_images_properties_of_the_whole_mask(tmp_path):
    values = torch.arange(40 * 60).reshape(1, 40, 60).repeat(2, 1, 1) * torch.tensor([1, 25])[:, None, None]
    instances = make_instances(tmp_path, values=values)
    write_table(tmp_path / "a.csv", instances)
    names = [*SHAPE_COLUMNS, "bbox", "centroid", "intensity_mean"]
    rows = read(tmp_path / "a.csv")
    for number, (row, mask) in enumerate(zip(rows, hard_masks(), strict=True), 1):
        expected = regionprops_table(mask.astype(np.uint8), values.permute(1, 2, 0).numpy(), names)
        assert {name: float(row[name]) for name in expected} == pytest.approx(
            {name: float(column[0]) for name, column in expected.items()}, rel=1e-9
        )
        assert row["label"] == str(number)
    assert [float(row["area"]) for row in rows] == hard_masks().sum((1, 2)).tolist()


def test_rows_have_file_class_and_score(tmp_path):
    instances = make_instances(tmp_path, name="sub/a, b")
    write_table(tmp_path / "a.csv", instances)
    rows = read(tmp_path / "a.csv")
    assert {row["file"] for row in rows} == {"sub/a, b.png"}
    assert [row["class"] for row in rows[:2]] == list(CLASSES.values())
    assert np.array_equal(np.array([row["score"] for row in rows], np.float32), instances.scores.numpy())


def test_tables_are_merged_in_order_whatever_their_channels(tmp_path):
    two = hard_masks()[:2]
    write_table(tmp_path / "a.csv", make_instances(tmp_path, "a", two, values=torch.ones(1, 40, 60)))
    write_table(tmp_path / "b.csv", make_instances(tmp_path, "b", no_masks(), values=torch.ones(3, 40, 60)))
    write_table(tmp_path / "c.csv", make_instances(tmp_path, "c", two, values=torch.full((3, 40, 60), 7.5)))
    merge_tables(tmp_path / "table.csv", [tmp_path / f"{name}.csv" for name in "abc"], CLASSES)
    rows = read(tmp_path / "table.csv")
    assert [row["file"] for row in rows] == ["a.png", "a.png", "c.png", "c.png"]
    assert list(rows[0]) == [*COLUMNS, "intensity_mean-0", "intensity_mean-1", "intensity_mean-2"]
    assert [row["intensity_mean-0"] for row in rows] == ["1", "1", "7.5", "7.5"]
    assert [row["intensity_mean-2"] for row in rows] == ["", "", "7.5", "7.5"]


def test_without_objects_there_is_the_header(tmp_path):
    write_table(tmp_path / "a.csv", make_instances(tmp_path, masks=no_masks()))
    assert (tmp_path / "a.csv").read_text() == ",".join(COLUMNS) + "\n"
    for parts in ([tmp_path / "a.csv"], []):
        merge_tables(tmp_path / "table.csv", parts, CLASSES)
        assert (tmp_path / "table.csv").read_text() == ",".join(COLUMNS) + "\n"
