"""The content of COCO files as the tools write it: ids, categories, sizes and coordinates."""

import json
import logging

import pytest
from omegaconf import OmegaConf

from sam_ft.cli.config import build
from tests.data.sources.test_coco import SQUARE, annotation, make, moved, split


@pytest.mark.parametrize(
    ("ids", "remark"),
    [([0, 0, 0], "1 annotations"), ([7, 8, 7], "1 annotations"), (["a", "a", "b"], "1 annotations"), ([None] * 3, "")],
)
def test_ids_of_annotations_play_no_part(messages, tmp_path, caplog, ids, remark):
    make(tmp_path, [annotation(key, segmentation=moved(place, 0)) for place, key in enumerate(ids)])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert len(split(tmp_path)[0].masks) == 3
    if remark:
        messages.logged(caplog, remark, f": {max(ids, key=ids.count)}")
    else:
        assert not caplog.messages


@pytest.mark.parametrize("categories", [[], None, "null"])
@pytest.mark.parametrize("category", [None, 5, "cell"])
def test_without_categories_all_objects_are_of_one_class(tmp_path, categories, category):
    make(tmp_path, [annotation(1, category=category), annotation(2, category=9, segmentation=moved(1, 0))])
    content = json.loads((tmp_path / "train.json").read_text())
    content.pop("categories")
    if categories is not None:
        content["categories"] = None if categories == "null" else categories
    (tmp_path / "train.json").write_text(json.dumps(content))
    found = split(tmp_path)
    assert found.classes == {1: "object"}
    assert found[0].labels.tolist() == [1, 1]


@pytest.mark.parametrize("sides", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_a_missing_size_is_that_of_the_file(messages, tmp_path, sides):
    make(tmp_path, [annotation(1)], [{"id": 1, "file_name": "a.png", **sides}])
    assert split(tmp_path)[0].masks.boxes().tolist() == [[1, 1, 4, 4]]
    (tmp_path / "train" / "a.png").write_bytes(b"")
    messages.refusal(split(tmp_path).survey, "1 of 1 images", "a.png")


@pytest.mark.parametrize("shift", [0, 0.02, -0.02])
def test_coordinates_between_0_and_1_are_named(messages, tmp_path, shift):
    shares = [value / (6 if place % 2 else 8) + shift for place, value in enumerate(SQUARE)]
    make(tmp_path, [annotation(key, segmentation=[shares]) for key in range(3)])
    messages.refusal(split(tmp_path).survey, "3 of 3 annotations", "between 0 and 1", "3: 0, 1, 2")


def test_a_few_objects_in_the_first_pixel_are_no_fault(tmp_path):
    tiny = [annotation(key, segmentation=[[0, 0, 1 + key, 0, 1 + key, 1, 0, 1]]) for key in range(2)]
    make(tmp_path, [*tiny, annotation(2), annotation(3, segmentation=moved(1, 1))])
    assert split(tmp_path).survey().objects == 4


def test_names_of_digits_select_categories(messages, tmp_path):
    categories = [{"id": 1, "name": "1"}, {"id": 2, "name": "2"}]
    make(tmp_path, [annotation(1, category=1), annotation(2, category=2)], categories=categories)
    for names in ([2], ["2"]):
        options = {"_target_": "sam_ft.data.sources.coco.Coco", "root": str(tmp_path), "categories": names}
        data = build(OmegaConf.create(options))
        assert data.split("train").classes == {2: "2"}
    messages.refusal(lambda: split(tmp_path, categories=[3]), "no category 3")
