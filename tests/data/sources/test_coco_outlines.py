"""Outlines in percent or of another scale, outlines beyond the image, and objects that are there twice."""

import logging

import numpy as np
import pytest
from pycocotools import mask as rle

from sam_ft.data.sources.coco_outlines import corner_reason, near_repeats
from sam_ft.types import dense
from tests.data.sources.test_coco import annotation, image, make, split


def boxes(count, size, side=20, seed=0):
    """Boxes anywhere in an image of (H, W): (A, 4) x, y, width, height, and the size of each image."""
    corners = np.random.default_rng(seed).uniform(0, 1, (count, 2)) * (np.array(size)[::-1] - side)
    return np.hstack([corners, np.full((count, 2), float(side))]), np.tile(size, (count, 1))


@pytest.mark.parametrize(
    ("scale", "size", "count", "fact"),
    [
        ((1, 1), (480, 640), 100, None),
        ((100 / 480, 100 / 640), (480, 640), 6, "percent"),
        ((100 / 96, 100 / 128), (96, 128), 40, "percent"),
        ((1000 / 3000, 1000 / 4000), (3000, 4000), 6, "thousandths"),
        ((0.5, 0.5), (480, 640), 20, "50% of the width"),
        ((0.5, 0.5), (480, 640), 3, None),
        ((1, 1), (90, 100), 100, None),
    ],
)
def test_outlines_that_all_lie_in_the_upper_left_have_a_likely_reason(scale, size, count, fact):
    own, sizes = boxes(count, size)
    reason = corner_reason(own * [*scale[::-1], *scale[::-1]], sizes)
    assert reason is None if fact is None else fact in reason.replace("49%", "50%").replace("48%", "50%")


def test_centered_objects_of_small_images_are_no_sign_of_percent():
    own = np.tile([34.0, 34, 60, 60], (50, 1)) + np.arange(50)[:, None] % 6 * [1, 1, 0, 0]
    assert corner_reason(own, np.tile((128, 128), (50, 1))) is None
    assert corner_reason(np.zeros((0, 4)), np.zeros((0, 2))) is None


@pytest.mark.parametrize(("factor", "warned"), [(1, False), (0.5, True)])
def test_outlines_in_percent_are_warned_of_without_a_bbox(messages, tmp_path, caplog, factor, warned):
    """20 squares of 20 pixels anywhere in an image of 200 x 200, as they are and in percent."""
    corners = np.random.default_rng(0).integers(0, 180, (20, 2)).tolist()
    squares = [[[x, y], [x + 20, y], [x + 20, y + 20], [x, y + 20]] for x, y in corners]
    outlines = [[[value * factor for point in square for value in point]] for square in squares]
    annotations = [annotation(key, segmentation=one) for key, one in enumerate(outlines)]
    make(tmp_path, annotations, [image(1, width=200, height=200)], size=(200, 200))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path)
    assert len(found[0].masks) == 20
    assert [issue.level for issue in found.json_issues()] == ["warning"] * 20 * warned + ["note"]
    if warned:
        messages.logged(caplog, "train.json", "percent", "and 10 more")


@pytest.mark.parametrize(("reach", "warned"), [(0, False), (2, False), (3, True)])
def test_outlines_beyond_the_image_are_warned_of(messages, tmp_path, caplog, reach, warned):
    end = 8 + reach
    outside = [annotation(key, segmentation=[[6, key, end, key, end, key + 1, 6, key + 1]]) for key in range(2)]
    make(tmp_path, [*outside, *(annotation(key, segmentation=[[0, 0, key, 0, key, 3]]) for key in range(4, 8))])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        split(tmp_path)
    assert bool(caplog.records) == warned
    if warned:
        messages.logged(caplog, "beyond their image", ": 0, 1")


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_that_follow_the_rows_are_warned_of(messages, tmp_path, caplog, order, compressed):
    """As where a mask was flattened in numpy's own order."""
    mask = np.hypot(*(np.mgrid[:40, :60] - np.array([20, 25])[:, None, None])) < 12
    flat = mask.ravel(order)
    counts = np.diff(np.flatnonzero(np.diff(flat, prepend=False)), prepend=0, append=flat.size).tolist()
    given = {"size": [40, 60], "counts": counts}
    given = {"size": [40, 60], "counts": rle.frPyObjects(given, 40, 60)["counts"].decode()} if compressed else given
    make(tmp_path, [annotation(1, segmentation=given)], [image(1, width=60, height=40)], size=(40, 60))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path)
    if order == "C":
        messages.logged(caplog, "along the rows", ": 1")
    else:
        assert not caplog.records
        assert (dense(found[0].masks)[0].numpy() == mask).all()


def test_an_object_that_is_there_twice_is_warned_of_where_it_is_not_equal(messages, tmp_path, caplog):
    square = [20, 20, 60, 20, 60, 60, 20, 60]
    shifted = [value + (1 if place % 2 else 0) for place, value in enumerate(square)]
    far = [value + 10 for value in square]
    others = {"category": 17}, {"image": 2}, {"iscrowd": 1}
    annotations = [annotation(1, segmentation=[square]), annotation(2, segmentation=[shifted])]
    annotations += [annotation(3, segmentation=[far])]
    annotations += [annotation(key, segmentation=[shifted], **other) for key, other in enumerate(others, 4)]
    make(tmp_path, annotations, [image(key, width=99, height=99) for key in (1, 2)], size=(99, 99))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert split(tmp_path).survey().objects == 5
    messages.logged(caplog, "1 annotations", ": 2")


def test_repeats_are_found_among_many():
    """Rows of squares, every tenth of which is there once more with a pixel less."""
    masks = np.zeros((44, 40, 400), bool)
    for key in range(40):
        masks[key, 5 : 25 + key % 3, key * 9 : key * 9 + 25] = True
    for place, key in enumerate(range(0, 40, 10)):
        masks[40 + place] = masks[key]
        masks[40 + place, 5, key * 9] = False
    encoded = [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    own, sizes = np.array([rle.toBbox(one) for one in encoded]), np.tile((40, 400), (44, 1))
    runs = [one["counts"] for one in encoded]
    assert near_repeats(np.zeros((44, 2), int), own, runs, sizes) == [40, 41, 42, 43]
    assert near_repeats(np.arange(88).reshape(44, 2), own, runs, sizes) == []
    assert near_repeats(np.zeros((0, 2), int), np.zeros((0, 4)), [], np.zeros((0, 2), int)) == []
