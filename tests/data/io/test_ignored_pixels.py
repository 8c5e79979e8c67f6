"""Pixels of a value to ignore are no object and no background."""

import cv2
import numpy as np
import pytest

from sam_ft.data.io.masks import read_binary_mask, read_instance_mask
from sam_ft.utils.errors import DataError
from tests.data.io.test_binary_masks import DISC
from tests.support.files import save

VOID = 255
VALUES = np.kron(np.array([[0, 1, 1, VOID], [0, 0, 1, VOID]], np.uint8), np.ones((4, 4), np.uint8))


def test_pixels_to_ignore_are_no_object_and_no_background(messages, tmp_path):
    path = save(tmp_path / "m.png", VALUES)
    with messages.raises(DataError, "m.png: ", "0, 1, 255;", "data.ignore_index"):
        read_binary_mask(path)
    mask, ignored, remarks = read_binary_mask(path, ignore_index=VOID)
    assert np.array_equal(mask, VALUES == 1)
    assert np.array_equal(ignored, VALUES == VOID)
    assert not remarks
    ids, ignored, _ = read_instance_mask(path, ignore_index=VOID)
    assert np.array_equal(ids, VALUES == 1)
    assert np.array_equal(ignored, VALUES == VOID)


def test_a_value_between_0_and_255_may_be_ignored(tmp_path):
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", np.array([[0, 128, 255]], np.uint8)), ignore_index=128)
    assert mask.tolist() == [[False, False, True]]
    assert ignored.tolist() == [[False, True, False]]


def test_what_is_ignored_is_never_an_object(tmp_path):
    path = save(tmp_path / "m.png", DISC)  # 0 and 255, which would be an object
    mask, ignored, _ = read_binary_mask(path, ignore_index=255)
    assert not mask.any()
    assert np.array_equal(ignored, DISC > 0)


@pytest.mark.parametrize("read", [read_binary_mask, read_instance_mask])
def test_nothing_is_ignored_where_there_is_nothing_to_ignore(tmp_path, read):
    kept, ignored, *_ = read(save(tmp_path / "m.png", DISC), ignore_index=128)
    assert np.array_equal(kept > 0, DISC > 0)
    assert ignored is None


def test_a_mask_with_values_to_ignore_must_be_exact(messages, tmp_path):
    blurred = cv2.GaussianBlur(DISC, (5, 5), 0)
    with messages.raises(DataError, "m.png: ", "data.ignore_index=128"):
        read_binary_mask(save(tmp_path / "m.png", blurred), ignore_index=128)
    with messages.raises(DataError, "m.jpg: ", "data.ignore_index=128"):
        read_binary_mask(save(tmp_path / "m.jpg", DISC), ignore_index=128)


def test_a_negative_value_may_be_ignored(tmp_path):
    ids, ignored, _ = read_instance_mask(save(tmp_path / "m.tif", np.array([[-1, 0, 7]], np.int32)), ignore_index=-1)
    assert ids.tolist() == [[0, 0, 7]]
    assert ignored.tolist() == [[True, False, False]]
