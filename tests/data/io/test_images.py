import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam_ft.data.io.images import read_image, read_size
from sam_ft.data.io.masks import read_binary_mask, read_mask
from sam_ft.data.io.windows import ImageWindows
from sam_ft.utils.errors import DataError
from tests.support.files import ORIENTATION, palette, save

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
DISC = np.zeros((96, 128), np.uint8)
cv2.circle(DISC, (60, 45), 30, 255, -1)

HELD = {
    "png": ["L", "RGB", "RGBA", "LA", "P", "1"],
    "tif": ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"],
    "jpg": ["L", "RGB", "CMYK"],
    "webp": ["RGB", "RGBA"],
    "bmp": ["L", "RGB", "RGBA", "P", "1"],
    "gif": ["L", "RGB", "P", "1"],
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in HELD.items() for mode in modes])
def test_images_of_any_8_bit_mode_become_rgb(tmp_path, suffix, mode):
    white = GREY > 100
    source = Image.fromarray(np.where(white, 255, 0).astype(np.uint8)).convert("RGB").convert(mode)
    image = read_image(save(tmp_path / f"a.{suffix}", source, **{"quality": 100} if suffix in ("jpg", "webp") else {}))
    assert image.dtype == np.uint8
    assert image.shape == (6, 8, 3)
    assert np.abs(image.astype(int) - 255 * white[..., None]).max() < 40


def test_a_palette_image_has_its_colors_and_alpha_is_dropped(tmp_path):
    indices = np.array([[0, 1], [2, 1]])
    expected = [[[10, 20, 30], [200, 100, 50]], [[0, 0, 255], [200, 100, 50]]]
    plain = save(tmp_path / "plain.png", palette(indices))
    see_through = save(tmp_path / "see.png", palette(indices), transparency=b"\x00\x80\xff")
    assert read_image(plain).tolist() == read_image(see_through).tolist() == expected
    rgba = save(tmp_path / "rgba.png", np.array([[[1, 2, 3, 0]]], np.uint8))
    assert read_image(rgba).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_truncated_file_is_refused(messages, tmp_path, suffix, read):
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with messages.raises(DataError, f"a.{suffix}: "):
        read(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "is empty"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"hello", "cannot be read"),
    ],
)
def test_a_file_that_is_no_image_is_refused(messages, tmp_path, suffix, content, fact):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with messages.raises(DataError, f"{path}: ", fact):
        read_image(path)


def test_a_missing_file_is_refused_by_name(messages, tmp_path):
    with messages.raises(DataError, "gone.png: ", "no such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("limit", [20, 40])  # Pillow fails above twice its limit and warns above it
def test_a_decompression_bomb_is_refused(messages, tmp_path, monkeypatch, limit):
    path = save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with messages.raises(DataError, "a.png: "):
        read_image(path)


def test_a_camera_s_jpeg_with_a_preview_is_one_image(tmp_path):
    photo, preview = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (200, 10))
    path = save(tmp_path / "a.jpg", photo, format="MPO", save_all=True, append_images=[preview])
    assert abs(int(read_image(path).mean()) - 200) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_and_mask_with_one_orientation_stay_aligned(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    half = DISC.copy()
    half[:, 60:] = 0  # without symmetry, so that each of the eight is another picture
    image_path = save(tmp_path / "a.jpg", half, "RGB", exif=exif, quality=95)
    mask_path = save(tmp_path / "m.jpg", half, exif=exif, quality=95)
    image, (mask, _, _) = read_image(image_path), read_binary_mask(mask_path)
    upright = {
        1: half,
        2: half[:, ::-1],
        3: half[::-1, ::-1],
        4: half[::-1],
        5: half.T,
        6: np.rot90(half, -1),
        7: half[::-1, ::-1].T,
        8: np.rot90(half),
    }[orientation]
    assert read_size(image_path) == image.shape[:2] == mask.shape
    assert np.array_equal(mask, upright > 0)
    assert ((image[..., 0] > 127) == mask).mean() > 0.995


@pytest.mark.parametrize("last", [False, True])
def test_the_size_of_a_turned_png_is_known_wherever_its_exif_data_stand(tmp_path, last):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "a.png", np.zeros((3, 5), np.uint8), exif=exif)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    rest = data[:start] + data[end:]
    place = len(rest) - 12 if last else 33  # before the end, or behind the header
    path.write_bytes(rest[:place] + data[start:end] + rest[place:])
    assert read_size(path) == read_image(path).shape[:2] == (5, 3)


def test_the_size_of_a_png_is_known_without_decoding_it(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", np.zeros((3, 5), np.uint8))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert read_size(path) == (3, 5)


def test_an_unknown_orientation_changes_nothing(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 99
    assert read_image(save(tmp_path / "a.png", GREY, exif=exif))[..., 0].tolist() == GREY.tolist()


def pipe(path):
    os.mkfifo(path)


def linked_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def folder(path):
    path.mkdir()


def device(path):
    path.symlink_to("/dev/zero")


def socket_file(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("make", [pipe, linked_pipe, folder, device, socket_file])
def test_what_is_no_file_is_refused_and_not_opened(messages, tmp_path, monkeypatch, make, suffix):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = Path(f"a{suffix}")
    make(path)
    # a pipe without a writer would wait for ever
    for read in (read_image, read_size, read_binary_mask, ImageWindows):
        messages.refusal(lambda read=read: read(path), path)
