"""Masks as they are stored: types of integers, pages, colors for printing, alpha."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.masks import read_mask
from sam_ft.data.io.objects import read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.utils.errors import DataError
from tests.data.io.test_binary_masks import DISC
from tests.data.io.test_ignored_pixels import VALUES, VOID
from tests.support.files import save


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_a_tiff_mask_is_read_whatever_its_integers(tmp_path, dtype):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, VALUES.astype(dtype))
    assert np.array_equal(read_mask(path), VALUES)
    found = read_objects(path, Rules("instances", ignore_index=VOID))
    assert found.count == 1
    assert np.array_equal(found.ids == 1, VALUES == 1)
    assert read_objects(path, Rules("whole", ignore_index=VOID)).count == 1


def test_a_page_of_a_mask_may_be_chosen(tmp_path):
    first, second = (Image.fromarray(values) for values in (DISC, DISC // 255 * 7))
    path = save(tmp_path / "m.tif", first, save_all=True, append_images=[second])
    assert read_mask(path, page=1).max() == 7


def test_a_mask_of_printing_colors_is_refused(messages, tmp_path):
    with messages.raises(DataError, "m.tif: ", "CMYK"):
        read_mask(save(tmp_path / "m.tif", DISC, "CMYK"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_is_no_value_of_a_mask(tmp_path, suffix, bands):
    path = save(tmp_path / f"m.{suffix}", np.dstack([*[DISC] * (bands - 1), np.full_like(DISC, 77)]))
    assert np.array_equal(read_mask(path), DISC)
