"""Masks of one object: two values, and the background among them."""

import cv2
import numpy as np
import pytest
import tifffile

from sam_ft.data.io.masks import read_binary_mask, read_instance_mask
from sam_ft.utils.errors import DataError
from tests.support.files import palette, save

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
DISC = np.zeros((96, 128), np.uint8)
cv2.circle(DISC, (60, 45), 30, 255, -1)


@pytest.mark.parametrize(
    "stored",
    [DISC, DISC // 255, DISC > 0, palette(DISC // 255), (DISC // 255).astype(np.uint16), np.dstack([DISC] * 3)],
    ids=["0-255", "0-1", "1 bit", "palette", "16 bit", "three equal channels"],
)
def test_binary_masks_are_read(tmp_path, stored):
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", stored))
    assert np.array_equal(mask, DISC > 0)
    assert not remarks


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value):
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", np.full((3, 4), value, np.uint8)))
    assert mask.mean() == (value > 0)
    assert not remarks


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ([0, 1, 2, 3], "0, 1, 2, 3;"),
        ([0, 128, 255], "0, 128, 255;"),
        ([0, 1, 255], "0, 1, 255;"),
        ([0, 7], "0, 7;"),
        ([5, 255], "5, 255;"),
        ([0, 1, 1, 1, 255], "0, 1, 255;"),
        ([1, 1, 1, 3, 12, 17, 255], "1, 3, 12, 17, 255;"),
        ([0, *range(10, 250, 20), 255], "0, 10, 30, 50, 70, 90, 110, 130, ...;"),
    ],
)
def test_a_mask_of_other_values_is_refused_and_named(messages, tmp_path, levels, shown):
    bands = np.repeat(np.array(levels, np.uint8), 8)[None].repeat(16, 0)
    path = save(tmp_path / "m.png", bands)
    with messages.raises(DataError, "m.png: ", f" {shown}", "data.objects=instances", "data.objects=classes"):
        read_binary_mask(path)


def test_a_mask_with_colors_is_refused(messages, tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with messages.raises(DataError, "m.png: "):
        read_binary_mask(path)


def test_a_mask_of_fractions_is_refused(messages, tmp_path):
    with messages.raises(DataError, "m.tif: ", "float32", " 0.25;"):
        read_binary_mask(save(tmp_path / "m.tif", GREY.astype(np.float32) / 20))
    with messages.raises(DataError, "m.tif: ", "float32", " nan;"):
        read_instance_mask(save(tmp_path / "m.tif", np.full((3, 4), np.nan, np.float32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_whole_floats_are_read_as_ids(tmp_path, dtype):
    ids = np.array([[0, 1, 2], [7, 300, 2048]])
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, ids.astype(dtype))
    found, *_ = read_instance_mask(path)
    assert found.tolist() == ids.tolist()
    tifffile.imwrite(path, (DISC > 0).astype(dtype))
    assert np.array_equal(read_binary_mask(path)[0], DISC > 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_the_largest_number_of_a_type_is_white(tmp_path, dtype):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.where(DISC > 0, np.iinfo(dtype).max, 0).astype(dtype))
    mask, ignored, remarks = read_binary_mask(path)
    assert np.array_equal(mask, DISC > 0)
    assert (ignored, remarks) == (None, ())


def test_ids_beside_65535_are_not_taken_for_black_and_white(tmp_path):
    with pytest.raises(DataError, match=r"m\.png: .*0, 1, 65535"):
        read_binary_mask(save(tmp_path / "m.png", np.array([[0, 1, 65535]], np.uint16)))


@pytest.mark.parametrize("background", [255, [255], [255, 7]])
def test_the_background_of_a_binary_mask_may_have_another_value(tmp_path, background):
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", 255 - DISC), background=background)
    assert np.array_equal(mask, DISC > 0)
    assert ignored is None


def test_a_trimap_is_read(tmp_path):
    trimap = np.where(DISC > 0, 1, 2).astype(np.uint8)  # 1 the object, 2 the background, 3 its border
    trimap[cv2.dilate(DISC, np.ones((5, 5))) != DISC] = 3
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", trimap), ignore_index=3, background=2)
    assert np.array_equal(mask, DISC > 0)
    assert np.array_equal(ignored, trimap == 3)
