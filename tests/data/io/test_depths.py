"""Images of more than 8 bits become images of 8 bits."""

import numpy as np
import pytest

from sam_ft.data.io.images import read_image
from tests.data.io.test_decoders import NOISE, save_png, save_tiff
from tests.support.files import save

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_a_16_bit_ramp_keeps_256_grey_levels(tmp_path):
    path = save(tmp_path / "a.png", RAMP)
    image = read_image(path, "dtype")
    assert np.unique(image).tolist() == list(range(256))
    assert np.array_equal(image[..., 0], np.rint(RAMP / 257))
    percentile = read_image(path)
    assert np.unique(percentile).tolist() == list(range(256))
    assert 0.004 < (percentile[..., 0] == 255).mean() < 0.01  # not the 99.6 % of a plain conversion
    assert np.array_equal(read_image(path, "range"), image)


def test_12_bits_in_a_16_bit_file_use_the_whole_range(tmp_path):
    path = save(tmp_path / "a.tif", RAMP >> 4)
    assert np.unique(read_image(path)).tolist() == list(range(256))
    assert read_image(path, "dtype").max() == 16  # 4095 / 257


def test_16_bit_colors_are_not_cut_to_8_bits_before_they_are_scaled(tmp_path):
    dark = NOISE[..., :3] >> 4  # 12 bits: Pillow would leave 16 levels
    assert len(np.unique(read_image(save_png(tmp_path / "a.png", dark)))) == 256


def test_the_scale_is_one_for_all_channels(tmp_path):
    picture = np.zeros((2, 2, 3), np.uint16)
    picture[0, 0] = 100, 200, 400
    assert read_image(save_png(tmp_path / "a.png", picture), "range")[0, 0].tolist() == [64, 128, 255]


def test_percentiles_leave_out_wild_pixels(tmp_path):
    picture = np.tile(np.array([100, 200], np.uint16), (50, 50))
    picture[0, 0] = 65535  # 1 of 5,000
    assert read_image(save(tmp_path / "a.png", picture))[1, :2, 0].tolist() == [0, 255]
    assert read_image(save(tmp_path / "a.png", picture), "range")[1, :2, 0].tolist() == [0, 0]


def test_where_nearly_all_is_background_the_range_takes_the_percentiles_place(tmp_path):
    picture = np.zeros((50, 100), np.uint16)
    picture[0, :2] = 500, 1000
    assert read_image(save(tmp_path / "a.png", picture))[0, :3, 0].tolist() == [128, 255, 0]


def test_an_image_of_one_value_is_black(tmp_path):
    for intensity in ("percentile", "range"):
        assert not read_image(save(tmp_path / "a.png", np.full((3, 4), 700, np.uint16)), intensity).any()


@pytest.mark.parametrize(
    ("dtype", "low", "middle", "high"),
    [
        (np.int8, -128, 0, 127),
        (np.int16, -32768, 0, 32767),
        (np.uint16, 0, 32768, 65535),
        (np.int32, -(2**31), 0, 2**31 - 1),
        (np.uint32, 0, 2**31, 2**32 - 1),
        (np.float16, 0, 0.5, 1),
        (np.float32, 0, 0.5, 1),
        (np.float64, 0, 0.5, 1),
    ],
)
@pytest.mark.parametrize("bands", [1, 3])
def test_the_full_range_of_each_type_becomes_black_to_white(tmp_path, dtype, low, middle, high, bands):
    picture = np.array([[low, middle, high]], dtype)
    picture = picture if bands == 1 else np.dstack([picture] * 3)
    path = save_tiff(tmp_path / "a.tif", picture)
    assert read_image(path, "dtype")[0, :, 2].tolist() == [0, 128, 255]
    assert read_image(path, "range")[0, :, 2].tolist() == [0, 128, 255]


def test_8_bits_are_never_scaled(tmp_path):
    dark = (NOISE[..., :3] >> 12).astype(np.uint8)
    for path in (save(tmp_path / "a.png", dark), save(tmp_path / "a.tif", dark)):
        assert np.array_equal(read_image(path), dark)


def test_floats_beyond_one_need_another_rule(messages, tmp_path):
    path = save_tiff(tmp_path / "a.tif", np.array([[-3, 250.5]], np.float32))
    messages.refusal(lambda: read_image(path, "dtype"), "a.tif: ", "from -3 to 250.5", "data.intensity=dtype")
    assert read_image(path, "range")[0, :, 0].tolist() == [0, 255]


def test_an_unknown_rule_is_refused(messages, tmp_path):
    path = save(tmp_path / "a.png", RAMP)
    messages.refusal(lambda: read_image(path, "auto"), "data.intensity=auto", "percentile, range, dtype")
