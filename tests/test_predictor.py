"""What the Predictor takes and what it refuses; that it answers as SamPredictor does is in test_evaluation.py."""

import numpy as np
import pytest
from PIL import Image

from sam_ft import Predictor
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


def test_for_no_objects_nothing_is_encoded(monkeypatch):
    predictor = Predictor(tiny_sam())
    monkeypatch.setattr(predictor.model, "encode", None)
    assert len(predictor.predict(IMAGE, boxes=[])[0]) == 0


def test_another_type_is_refused_even_with_the_values_of_the_last_image(predictor):
    predictor.predict(IMAGE, boxes=[[3, 4, 9, 9]])
    with pytest.raises(ValueError, match=r"image is float64 \(20, 30, 3\); expected uint8"):
        predictor.predict(IMAGE.astype(float), boxes=[[3, 4, 9, 9]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cell.png", r"image is of type str; expected an array .*Image\.open\(path\)"),
        (Image.fromarray(IMAGE), "image is of type Image; expected an array"),
        (IMAGE.tolist(), "image is of type list; expected an array"),
        (IMAGE[:0], r"image is uint8 \(0, 30, 3\)"),
    ],
)
def test_what_is_no_image_is_refused_with_how_to_read_one(predictor, image, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(image, boxes=[[3, 4, 9, 9]])


GOOD = [3, 4, 9, 9]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"boxes": [GOOD, [9, 4, 3, 9]]}, r"boxes\[1\] is \[9\.0, 4\.0, 3\.0, 9\.0\]; expected .* x0 < x1"),
        ({"boxes": [[3, 9, 9, 9], [9, 4, 3, 9]]}, r"boxes\[0\] is"),
        ({"boxes": [GOOD, [3, float("nan"), 9, 9]]}, r"boxes\[1\] is .*nan"),
        ({"boxes": [GOOD, GOOD, [30, 4, 40, 9]]}, r"boxes\[2\] is .*, outside of the image, .* 30 wide and 20 high"),
        ({"boxes": [[3, 20, 9, 25]]}, r"boxes\[0\] is .* outside"),
        ({"boxes": [[-9, 4, 0, 9]]}, r"boxes\[0\] is .* outside"),
        ({"boxes": [[3, -9, 9, 0]]}, r"boxes\[0\] is .* outside"),
        ({"points": [[1, 2]], "point_labels": [[1]]}, r"points is \(1, 2\); expected \(N, K, 2\)"),
        ({"points": [[[1, 2]]], "point_labels": [1]}, r"point_labels is \(1,\); expected \(N, K\)"),
        ({"points": [[[1, 2]]], "point_labels": [[1, 0]]}, r"points is \(1, 1, 2\) and point_labels \(1, 2\)"),
        ({"mask_input": np.zeros((1, 8, 8))}, r"mask_input is \(1, 8, 8\); expected \(N, 1, 16, 16\)"),
        ({"boxes": [], "mask_input": np.zeros((1, 1, 16, 16))}, "different numbers of objects"),
    ],
)
def test_a_prompt_that_cannot_be_meant_is_refused_with_its_row(predictor, prompts, message):
    with pytest.raises(ValueError, match=message):
        predictor.predict(IMAGE, **prompts)


def test_boxes_that_reach_over_the_border_are_answered(predictor):
    masks, _, _ = predictor.predict(IMAGE, boxes=[[-5, -5, 1, 1], [29, 19, 50, 50], [-1e3, -1e3, 1e3, 1e3]])
    assert masks.shape == (3, 1, 20, 30)
