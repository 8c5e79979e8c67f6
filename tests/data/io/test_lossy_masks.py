"""Masks whose edges are gray, of JPEG, of lossy WebP or of a smooth resize, and those that only look so."""

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_ft.data.io.class_masks import read_class_mask
from sam_ft.data.io.classes import ClassMap
from sam_ft.data.io.lossy import LOSSY, lossy_codec
from sam_ft.data.io.masks import read_binary_mask, read_instance_mask, read_mask
from sam_ft.utils.errors import DataError
from tests.data.io.test_binary_masks import DISC
from tests.support.files import refusal, save


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
@pytest.mark.parametrize("thickness", [-1, 2], ids=["disc", "thin ring"])
def test_jpeg_masks_are_cut_at_half(tmp_path, quality, thickness):
    drawn = np.zeros((96, 128), np.uint8)
    cv2.circle(drawn, (60, 45), 30, 255, thickness)
    path = save(tmp_path / "m.jpg", drawn, quality=quality)
    assert len(np.unique(read_mask(path))) > 2
    mask, _, remarks = read_binary_mask(path)
    assert remarks == (LOSSY,)
    assert np.array_equal(mask, drawn > 0) or quality < 90
    assert (mask == (drawn > 0)).mean() > 0.99


SHAPES = {
    "disc": DISC,
    "hole": 255 - DISC,
    "blocks of 8 pixels": np.kron(np.indices((6, 8)).sum(0) % 2 * 255, np.ones((8, 8))).astype(np.uint8),
    "line": np.where(np.arange(64)[:, None] == 20, 255, np.zeros((64, 64))).astype(np.uint8),
    "empty": DISC * 0,
    "full": DISC * 0 + 255,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_jpeg_masks_are_read_at_every_quality(tmp_path, shape):
    drawn, blacks = SHAPES[shape], set()
    for quality in range(30, 101):
        path = save(tmp_path / "m.jpg", drawn, quality=quality)
        blacks.add(int(read_mask(path).min()))
        mask, _, _ = read_binary_mask(path)
        assert (mask == (drawn > 0)).mean() > 0.99, quality
    assert shape != "empty" or blacks == {0, 1}  # the reason for all this


@pytest.mark.parametrize("quality", [60, 68, 69, 70, 80])
def test_a_jpeg_mask_that_was_saved_again_as_png_is_cut_at_half(tmp_path, quality):
    values = read_mask(save(tmp_path / "m.jpg", DISC, quality=quality))
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", values))
    assert remarks == (LOSSY,)
    assert (mask == (DISC > 0)).mean() > 0.99


@pytest.mark.parametrize("quality", [50, 70, 90, 100])
@pytest.mark.parametrize("ids", [(1,), (1, 2, 3), (60, 120, 180), (60, 120, 255)])
def test_ids_in_a_jpeg_are_refused_and_no_other_way_to_read_it_is_named(tmp_path, quality, ids):
    drawn = np.zeros((96, 128), np.uint8)
    for place, value in enumerate(ids):
        drawn[16:80, 8 + 40 * place : 40 + 40 * place] = value
    path = save(tmp_path / "m.jpg", drawn, quality=quality)
    if read_mask(path).max() == read_mask(path).min():
        pytest.skip("at this quality nothing is left of the ids")
    message = refusal(lambda: read_binary_mask(path))  # whose values depend on the JPEG library
    assert all(fact in message for fact in ("m.jpg: ", "255", "PNG"))
    assert "data.objects" not in message


def test_a_smoothly_resized_mask_is_cut_at_half(tmp_path):
    large = cv2.resize(DISC, (300, 200), interpolation=cv2.INTER_LINEAR)
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", large))
    assert remarks == (LOSSY,)
    assert np.array_equal(mask, large > 127)


def test_many_instance_ids_are_not_mistaken_for_a_lossy_mask(messages, tmp_path):
    tiles = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((6, 6), np.uint8))
    with messages.raises(DataError, "m.png: ", "data.objects=instances"):
        read_binary_mask(save(tmp_path / "m.png", tiles))


def test_classes_with_a_void_border_are_not_mistaken_for_a_lossy_mask(messages, tmp_path):
    classes = np.zeros((96, 128), np.uint8)
    for x, value in ((20, 3), (60, 12), (100, 17)):
        cv2.circle(classes, (x, 45), 15, value, -1)
        cv2.circle(classes, (x, 45), 15, 255, 3)
    with messages.raises(DataError, "m.png: ", "0, 3, 12, 17, 255;"):
        read_binary_mask(save(tmp_path / "m.png", classes))


def test_a_photograph_is_not_taken_for_a_mask(tmp_path):
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), (0, 0), 3)
    photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX)
    with pytest.raises(DataError, match=r"m\.png: "):
        read_binary_mask(save(tmp_path / "m.png", photo))


def test_gray_edges_of_16_bits_are_cut_at_half(tmp_path):
    blurred = cv2.GaussianBlur(DISC, (5, 5), 0)
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", blurred.astype(np.uint16) * 257))
    assert remarks == (LOSSY,)
    assert np.array_equal(mask, blurred > 127)


@pytest.mark.parametrize("quality", [10, 30, 50, 80, 100])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_lossy_webp_mask_is_cut_at_half(tmp_path, quality, shape):
    drawn = SHAPES[shape]
    mask, _, _ = read_binary_mask(save(tmp_path / "m.webp", drawn, quality=quality))  # stored with colors
    assert (mask == (drawn > 0)).mean() > 0.98


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_a_lossless_webp_is_read_as_it_is_stored(tmp_path, suffix):
    path = save(tmp_path / f"m.{suffix}", DISC // 255 * 3, format="WEBP", lossless=True)
    assert lossy_codec(path) is None
    assert np.array_equal(read_instance_mask(path)[0], DISC // 255 * 3)


@pytest.mark.parametrize(
    ("name", "options", "codec"),
    [
        ("m.webp", {}, "lossy WebP"),
        ("m.webp", {"exif": Image.Exif()}, "lossy WebP"),
        ("m.webp", {"save_all": True, "append_images": [Image.fromarray(255 - DISC)]}, "lossy WebP"),
        ("m.png", {"format": "JPEG"}, "JPEG"),
        ("m.png", {"format": "WEBP"}, "lossy WebP"),
        ("m.tif", {"compression": "jpeg"}, "JPEG"),
    ],
)
def test_ids_of_a_lossy_codec_are_refused_whatever_the_suffix(messages, tmp_path, name, options, codec):
    # Three ids so close that their changed values look like ids.
    path = save(tmp_path / name, DISC // 255 * 3, **options)
    message = messages.refusal(lambda: read_instance_mask(path), f"{name}: ", "PNG")
    assert codec in message
    with messages.raises(DataError, f"{name}: ", "PNG"):
        read_class_mask(path, ClassMap.from_config({"cell": 3}, other="background"))


def test_zero_and_one_in_a_lossy_webp_are_refused(messages, tmp_path):
    with messages.raises(DataError, "m.webp: ", "255", "PNG"):
        read_binary_mask(save(tmp_path / "m.webp", DISC // 255 * 40, quality=80))


def test_a_png_with_the_suffix_of_a_jpeg_keeps_its_ids(tmp_path):
    path = save(tmp_path / "m.jpg", DISC // 255 * 3, format="PNG")
    assert np.array_equal(read_instance_mask(path)[0], DISC // 255 * 3)
