"""Inputs that the Predictor takes and refuses; evaluation/test_evaluate.py compares its masks with SamPredictor's."""

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft import Predictor, read_image, train
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.models.heads import InstanceHead
from sam_ft.utils.errors import ConfigError, DataError
from tests.support.tiny import tiny_sam

IMAGE = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_sam())


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize(
    "nothing",
    [
        {"boxes": []},
        {"boxes": np.zeros((0, 4))},
        {"points": [], "point_labels": []},
        {"points": np.zeros((0, 3, 2)), "point_labels": np.zeros((0, 3))},
        {"mask_input": []},
        {"boxes": [], "points": [], "point_labels": []},
    ],
)
def test_no_objects_have_no_masks_in_the_shapes_of_some(predictor, nothing, multimask):
    found = predictor.predict(IMAGE, **nothing, multimask_output=multimask)
    some = predictor.predict(IMAGE, boxes=[[3, 4, 9, 9]], multimask_output=multimask)
    assert [array.shape for array in found] == [(0, *array.shape[1:]) for array in some]
    assert [array.dtype for array in found] == [array.dtype for array in some]


def test_no_image_is_encoded_for_no_objects(monkeypatch):
    predictor = Predictor(tiny_sam())
    monkeypatch.setattr(predictor.model, "encode", None)
    assert len(predictor.predict(IMAGE, boxes=[])[0]) == 0


def test_another_type_is_refused_even_with_the_values_of_the_last_image(predictor, messages):
    predictor.predict(IMAGE, boxes=[[3, 4, 9, 9]])
    with messages.raises(ValueError, "float64 (20, 30, 3)"):
        predictor.predict(IMAGE.astype(float), boxes=[[3, 4, 9, 9]])


@pytest.mark.parametrize(
    ("image", "fact"),
    [
        pytest.param(Image.fromarray(IMAGE), "type Image", id="Pillow"),
        pytest.param(IMAGE.tolist(), "type list", id="list"),
        pytest.param(IMAGE[:0], "uint8 (0, 30, 3)", id="no rows"),
    ],
)
def test_an_image_that_is_no_array_is_refused(predictor, image, fact, messages):
    with messages.raises(ValueError, fact):
        predictor.predict(image, boxes=[[3, 4, 9, 9]])


def test_a_path_is_read_as_training_reads_it(tmp_path, messages):
    # 16 bits: Pillow's convert("RGB") would cut all values at 255
    path = tmp_path / "deep.png"
    Image.fromarray(np.linspace(300, 60000, 600).reshape(20, 30).astype(np.uint16)).save(path)
    boxes = [[3, 4, 9, 9]]
    for reading in ({}, {"intensity": "dtype"}):
        own = Predictor(tiny_sam(), **reading)
        for given in (path, str(path)):
            masks, _, logits = own.predict(given, boxes=boxes)
            assert np.array_equal(logits, own.predict(read_image(path, **reading), boxes=boxes)[2])
            assert masks.shape == (1, 1, 20, 30)
    assert not np.array_equal(read_image(path), read_image(path, intensity="dtype"))
    with messages.raises(DataError, tmp_path / "nothing.png"):
        own.predict(tmp_path / "nothing.png", boxes=boxes)


GOOD = [3, 4, 9, 9]


@pytest.mark.parametrize(
    ("prompts", "fact"),
    [
        pytest.param({"boxes": [GOOD, [9, 4, 3, 9]]}, "boxes[1] is [9.0, 4.0, 3.0, 9.0]", id="x0 above x1"),
        pytest.param({"boxes": [[3, 9, 9, 9], [9, 4, 3, 9]]}, "boxes[0]", id="no height"),
        pytest.param({"boxes": [GOOD, [3, float("nan"), 9, 9]]}, "boxes[1]", id="nan"),
        pytest.param({"boxes": [GOOD, GOOD, [30, 4, 40, 9]]}, "boxes[2]", id="right of the image"),
        pytest.param({"boxes": [[3, 20, 9, 25]]}, "boxes[0]", id="below"),
        pytest.param({"boxes": [[-9, 4, 0, 9]]}, "boxes[0]", id="left"),
        pytest.param({"boxes": [[3, -9, 9, 0]]}, "boxes[0]", id="above"),
        pytest.param({"points": [[1, 2]], "point_labels": [[1]]}, "points is (1, 2)", id="points"),
        pytest.param({"points": [[[1, 2]]], "point_labels": [1]}, "point_labels is (1,)", id="labels"),
        pytest.param({"points": [[[1, 2]]], "point_labels": [[1, 0]]}, "point_labels (1, 2)", id="two labels"),
        pytest.param({"mask_input": np.zeros((1, 8, 8))}, "mask_input is (1, 8, 8)", id="mask"),
        pytest.param({"boxes": [], "mask_input": np.zeros((1, 1, 16, 16))}, "boxes", id="numbers of objects"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_row(predictor, prompts, fact, messages):
    with messages.raises(ValueError, fact):
        predictor.predict(IMAGE, **prompts)


def test_boxes_may_reach_over_the_border(predictor):
    masks, _, _ = predictor.predict(IMAGE, boxes=[[-5, -5, 1, 1], [29, 19, 50, 50], [-1e3, -1e3, 1e3, 1e3]])
    assert masks.shape == (3, 1, 20, 30)


@pytest.mark.parametrize(
    "wrong", [{"intensity": "window"}, {"page": -1}, {"page": True}, {"page": "x"}, {"channels": 7}]
)
def test_a_wrong_way_of_reading_is_refused_at_once(messages, wrong):
    with messages.raises(ConfigError, str(next(iter(wrong.values())))):
        Predictor(tiny_sam(), **wrong)


def test_a_single_package_to_trust_is_no_list(messages, tmp_path):
    with messages.raises(ValueError, "['mylab']"):
        Predictor.from_run(tmp_path, trust="mylab")


def test_a_single_setting_is_no_list(messages):
    with messages.raises(ConfigError, "['data=folder']"):
        train("data=folder")


def test_segment_needs_a_head_and_room_for_the_masks(messages, monkeypatch):
    predictor = Predictor(tiny_sam())
    with messages.raises(ValueError, "head=instances"):
        predictor.segment(IMAGE)
    with messages.raises(ValueError, "float64"):
        predictor.segment(IMAGE.astype(float))
    predictor.model.attach_head(InstanceHead())
    low = WatershedThresholds(foreground=0, height=1, min_area=1)
    predictor.options = SegmentOptions(low)
    masks, scores, labels = predictor.segment(IMAGE)
    assert masks.shape == (1, 20, 30)
    assert masks.all()
    assert (scores.dtype, labels.tolist()) == (np.float32, [1])
    monkeypatch.setattr("sam_ft.predictor.MAX_DENSE_BYTES", 599)
    with messages.raises(ValueError, "30 x 20"):
        predictor.segment(IMAGE)


POINT = [[3.0, 4.0]]
NORMALIZED = [
    pytest.param({"boxes": [[0.2, 0.1, 0.7, 0.9]]}, "boxes[0]", id="box"),
    pytest.param({"boxes": [GOOD, [0, 0, 1, 1]]}, "boxes[1]", id="box of a pixel"),
    pytest.param({"points": [[[0.5, 0.25]]], "point_labels": [[1]]}, "points[0]", id="point"),
    pytest.param({"points": [POINT, [[0.9, 1.0]]], "point_labels": [[1], [0]]}, "points[1]", id="second object"),
    pytest.param({"points": [[[0.5, 0.5], [9, 9]]], "point_labels": [[1, -1]]}, "points[0]", id="point beside padding"),
]
OUTSIDE = [
    pytest.param({"points": [[[30, 4]]], "point_labels": [[1]]}, "[30.0, 4.0]", id="right"),
    pytest.param({"points": [POINT, [[3, 20]]], "point_labels": [[1], [1]]}, "points[1]", id="below"),
    pytest.param({"points": [[[3, 4], [-0.5, 4]]], "point_labels": [[1, 0]]}, "[-0.5, 4.0]", id="left"),
    pytest.param({"points": [[[float("nan"), 4]]], "point_labels": [[1]]}, "points[0]", id="nan"),
]
LABELS = [
    pytest.param({"points": [POINT], "point_labels": [[label]]}, f"{label:g}", id=f"label {label}")
    for label in (2, 5, -2, 0.5, float("nan"))
]

INFINITE, NAN = float("inf"), float("nan")
NUMBERS = [
    pytest.param({"boxes": [[0, 0, INFINITE, INFINITE]]}, "boxes[0]", id="infinite box"),
    pytest.param({"boxes": [[-INFINITE, 0, 9, 9]]}, "boxes[0]", id="box from minus infinity"),
    pytest.param({"boxes": [[-0.01, 0.1, 0.8, 1.02]]}, "boxes[0]", id="normalized box hardly beyond 1"),
    pytest.param({"boxes": [["1", "2", "3", "4"]]}, "boxes is", id="texts"),
    pytest.param({"boxes": [[None, 2, 3, 4]]}, "boxes is", id="None"),
    pytest.param({"boxes": [[1, 2, 3, 4], [1, 2]]}, "boxes is", id="rows of two lengths"),
    pytest.param({"boxes": np.array([[1, 2, 3, 4j]])}, "boxes is", id="complex numbers"),
    pytest.param({"points": [POINT], "point_labels": [["1"]]}, "point_labels is", id="text as label"),
    pytest.param({"points": [POINT, POINT], "point_labels": [[1], [-1]]}, "points[1]", id="padding alone"),
    pytest.param({"points": np.zeros((1, 0, 2)), "point_labels": np.zeros((1, 0))}, "points[0]", id="no point"),
    pytest.param({"mask_input": np.full((1, 1, 16, 16), NAN)}, "mask_input", id="nan as logits"),
    pytest.param({"mask_input": np.full((1, 1, 16, 16), INFINITE)}, "mask_input", id="infinite logits"),
    pytest.param({"mask_input": np.ones((1, 1, 16, 16), bool)}, "mask_input", id="a mask as logits"),
    pytest.param({"mask_input": np.full((1, 1, 16, 16), 255, np.uint8)}, "mask_input", id="gray values as logits"),
]


@pytest.mark.parametrize(("prompts", "fact"), [*NORMALIZED, *OUTSIDE, *LABELS, *NUMBERS])
def test_coordinates_that_are_no_pixels_of_the_image_are_refused(messages, predictor, prompts, fact):
    with messages.raises(ValueError, fact):
        predictor.predict(IMAGE, **prompts)


def test_points_on_the_border_and_padding_anywhere_are_taken(predictor):
    width, height = IMAGE.shape[1], IMAGE.shape[0]
    points = [[[0, height - 1], [0, 0]], [[width - 0.01, 5], [-9, 999]]]
    masks, _, _ = predictor.predict(IMAGE, points=points, point_labels=[[1, 0], [1, -1]])
    assert len(masks) == 2


@pytest.mark.parametrize(
    "boxes",
    [
        np.array([GOOD], np.uint8),
        torch.tensor([GOOD], dtype=torch.bfloat16),
        torch.tensor([GOOD], dtype=torch.float64, requires_grad=True),
    ],
)
def test_any_array_of_numbers_is_a_prompt(predictor, boxes):
    masks, _, _ = predictor.predict(IMAGE, boxes=boxes)
    assert np.array_equal(masks, predictor.predict(IMAGE, boxes=[GOOD])[0])


def test_padding_may_stand_beside_a_box(predictor):
    predictor.predict(IMAGE, boxes=[GOOD], points=[POINT], point_labels=[[-1]])


def test_an_image_of_two_pixels_has_no_other_coordinates(predictor):
    predictor.predict(IMAGE[:2, :2], boxes=[[0, 0, 1, 1]], points=[[[1, 0.5]]], point_labels=[[1]])
