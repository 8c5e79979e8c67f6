"""Images whose bands, values, compression or bytes cannot be used."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.images import read_image, read_size
from sam_ft.utils.errors import DataError
from tests.data.io.test_decoders import NOISE, save_png, save_tiff
from tests.support.files import save


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [2, 5, 7])
def test_other_numbers_of_bands_are_refused_with_their_number(messages, tmp_path, dtype, bands):
    picture = np.zeros((6, 8, bands), dtype)
    path = save_tiff(tmp_path / "a.tif", picture, photometric="minisblack", planarconfig="contig")
    messages.refusal(lambda: read_image(path), "a.tif: ", f"{bands} bands")
    messages.refusal(lambda: read_size(path), "a.tif: ", f"{bands} bands")


def test_compressed_colors_of_16_bits_ask_for_their_codec(messages, tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(cv2.imencode(".tif", NOISE[..., :3], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes())
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})  # even where imagecodecs is installed
    messages.refusal(lambda: read_image(path), "a.tif: ", "uint16", "LZW", "pip install imagecodecs")


@pytest.mark.parametrize(("value", "count"), [(np.nan, 1), (np.inf, 1), (-np.inf, 3)])
def test_what_is_no_number_is_refused(messages, tmp_path, value, count):
    picture = np.full((6, 8), 0.5, np.float32)
    picture[0, :count] = value
    path = save_tiff(tmp_path / "a.tif", picture)
    messages.refusal(lambda: read_image(path), f"a.tif: {count} ", "NaN")


def test_complex_numbers_are_refused(messages, tmp_path):
    path = save_tiff(tmp_path / "a.tif", np.zeros((6, 8), np.complex64))
    messages.refusal(lambda: read_image(path), "a.tif: ", "YX", "complex64")


@pytest.mark.parametrize("suffix", ["png", "tif", "zip.tif"])
def test_truncated_16_bit_colors_are_refused(messages, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        save_png(path, NOISE[..., :3])
    else:
        save_tiff(path, NOISE[..., :3], compression="zlib" if "zip" in suffix else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    messages.refusal(lambda: read_image(path), path)


def test_a_changed_byte_of_a_16_bit_color_png_is_found(messages, tmp_path):
    path = save_png(tmp_path / "a.png", NOISE[..., :3])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    messages.refusal(lambda: read_image(path), path)


def test_a_decompression_bomb_is_refused_in_a_tiff_too(messages, tmp_path, monkeypatch):
    path = save_tiff(tmp_path / "a.tif", np.zeros((6, 8, 3), np.float32))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    for read in (read_image, read_size):
        with messages.raises(DataError, "a.tif: "):
            read(path)


def test_compressed_signed_bytes_are_not_taken_for_unsigned_ones(messages, tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", np.array([[0, 255]], np.uint8), compression="tiff_lzw", tiffinfo={339: 2})
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})
    messages.refusal(lambda: read_image(path), "a.tif: ", "int8", "LZW")
