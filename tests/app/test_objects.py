import base64
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.app.objects import PageObject, prompts_from_json
from sam_ft.utils.errors import DataError

SIZE = (40, 60)


def test_a_mask_travels_as_a_png_with_its_box_and_is_transparent_outside():
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = mask[2, 3] = True
    found = PageObject(number=7, x0=5, y0=6, mask=mask, score=0.87654321, label=2).as_json()
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.pop("png")))))
    assert found == {"number": 7, "score": 0.8765, "label": 2, "x": 5, "y": 6, "width": 4, "height": 3}
    assert np.array_equal(pixels[..., 1], mask * 255)
    assert (pixels[..., 0] == 255).all()


def test_a_box_and_points_become_the_prompts_of_one_object():
    prompts = prompts_from_json([1, 2, 60, 40], [[0, 0], [60, 40]], [1, 0], SIZE)
    assert prompts.boxes.tolist() == [[1, 2, 60, 40]]
    assert prompts.points.tolist() == [[[0, 0], [60, 40]]]
    assert prompts.point_labels.tolist() == [[1, 0]]
    alone = prompts_from_json([1, 2, 3, 4], [], [], SIZE)
    assert alone.points is alone.point_labels is None
    point = prompts_from_json(None, [[1.5, 2]], [1], SIZE)
    assert point.boxes is None
    assert torch.equal(point.points, torch.tensor([[[1.5, 2]]]))


@pytest.mark.parametrize(
    ("box", "points", "labels"),
    [
        (None, None, None),
        (None, [], []),
        ([1, 2, 3], None, None),
        ([1, 2, 3, "x"], None, None),
        ("box", None, None),
        ({"x": 1}, None, None),
        ([3, 2, 3, 4], None, None),
        ([3, 4, 5, 2], None, None),
        ([0, 0, 61, 40], None, None),
        ([math.nan, 0, 9, 9], None, None),
        (None, [[1, 2]], []),
        (None, [[1, 2]], [2]),
        (None, [[1, 2]], [math.nan]),
        (None, [[1, 2, 3]], [1]),
        (None, [[1, 2], [3]], [1, 1]),
        (None, [[-1, 2]], [1]),
        (None, [[1, 40.5]], [1]),
        (None, [[1, math.inf]], [1]),
    ],
)
def test_no_prompt_a_malformed_one_and_one_outside_of_the_image_are_refused(box, points, labels):
    with pytest.raises(DataError):
        prompts_from_json(box, points, labels, SIZE)


def test_the_refusals_name_the_prompt(messages):
    for given in (
        (None, [], []),
        (None, [[1, 2]], [2]),
        ([1, 2, 3], [], []),
        ([3, 2, 3, 4], [], []),
        ([0, 0, 61, 9], [], []),
    ):
        messages.refusal(lambda given=given: prompts_from_json(*given, SIZE))
