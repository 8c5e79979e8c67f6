import io

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.app import preview
from sam_ft.app.preview import Preview, read_reduced
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.report.pictures import stretch_contrast
from sam_ft.utils.errors import DataError


def image(height, width, most=256):
    return np.random.default_rng(0).integers(0, most, (height, width, 3), dtype=np.uint8)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def window(top, bottom, left, right):
    return slice(top, bottom), slice(left, right)


def test_a_small_image_is_shown_as_it_is():
    own = image(30, 50)
    shown = Preview(ArrayWindows(own))
    assert shown.step(shown.whole) == 1
    assert np.array_equal(pixels(shown.png(shown.whole)), own)
    assert np.array_equal(pixels(shown.png(window(3, 9, 40, 50))), own[3:9, 40:50])


@pytest.mark.parametrize("band", [1, 4, 7, 1000])
def test_a_large_image_is_reduced_as_a_whole_and_shown_in_full_in_parts(monkeypatch, band):
    monkeypatch.setattr(preview, "PREVIEW_SIDE", 10)
    monkeypatch.setattr(preview, "BAND", band)
    own = image(25, 14)
    shown = Preview(ArrayWindows(own))
    assert shown.step(shown.whole) == 3
    assert np.array_equal(pixels(shown.png(shown.whole)), own[::3, ::3])
    assert np.array_equal(pixels(shown.png(window(10, 20, 0, 10))), own[10:20, :10])
    assert np.array_equal(pixels(shown.png(window(1, 21, 2, 14))), own[1:21:2, 2:14:2])


def test_bands_of_rows_are_read_one_at_a_time():
    class Counted(ArrayWindows):
        def read(self, rows, columns):
            read.append((rows.start, rows.stop))
            return super().read(rows, columns)

    read, own = [], image(3000, 4)
    found = read_reduced(Counted(own), window(500, 3000, 0, 4), step=3)
    assert torch.equal(found, torch.from_numpy(own[500::3, ::3]).permute(2, 0, 1))
    assert max(stop - start for start, stop in read) <= 1024
    assert found.untyped_storage().nbytes() == found.numel()  # no band stays in memory


def test_parts_of_a_dark_image_have_the_contrast_of_the_whole():
    own = image(40, 40, most=60)
    own[:, 20:] //= 4
    shown = Preview(ArrayWindows(own))
    expected = stretch_contrast(torch.from_numpy(own).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    assert expected.max() == 255
    assert np.array_equal(pixels(shown.png(shown.whole)), expected)
    assert np.array_equal(pixels(shown.png(window(0, 40, 20, 40))), expected[:, 20:])


@pytest.mark.parametrize("outside", [(-1, 5, 0, 5), (0, 31, 0, 5), (5, 5, 0, 5), (9, 5, 0, 5), (0, 5, 0, 10**12)])
def test_a_window_outside_of_the_image_is_refused(outside):
    shown = Preview(ArrayWindows(image(30, 50)))
    with pytest.raises(DataError, match="50 wide and 30 high"):
        shown.png(window(*outside))
