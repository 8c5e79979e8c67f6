"""Images of more than 8 bits, of several bands, of several pages."""

import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.images import read_image, read_size
from sam_ft.utils.errors import DataError
from tests.support.files import ORIENTATION, save

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)
NOISE = np.random.default_rng(0).integers(0, 65536, (30, 40, 4), np.uint16)


def save_png(path, array):
    """16 bits a value, which Pillow cannot write in colors; OpenCV keeps blue first."""
    swapped = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[-1]]]
    path.write_bytes(cv2.imencode(".png", swapped)[1].tobytes())
    return path


def save_tiff(path, array, **options):
    kind = "rgb" if array.ndim == 3 and array.shape[-1] >= 3 else "minisblack"
    tifffile.imwrite(path, array, **{"photometric": kind, **options})
    return path


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


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("intensity", ["percentile", "range", "dtype"])
def test_the_same_picture_is_the_same_through_either_decoder(tmp_path, bands, intensity):
    picture = NOISE[..., 0] if bands == 1 else NOISE[..., :bands]
    alpha = {"extrasamples": ["unassalpha"]} if bands == 4 else {}
    png = read_image(save_png(tmp_path / "a.png", picture), intensity)
    assert np.array_equal(png, read_image(save_tiff(tmp_path / "a.tif", picture, **alpha), intensity))
    assert np.array_equal(png, read_image(save_tiff(tmp_path / "b.tif", picture, compression="zlib"), intensity))
    assert len(np.unique(png)) > 200
    if bands > 1 and intensity == "dtype":
        assert np.array_equal(png, np.rint(NOISE[..., :3] / 257))


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


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_either_byte_order_and_large_files_are_read(tmp_path, order, big):
    path = save_tiff(tmp_path / "a.tif", NOISE[..., :3], byteorder=order, bigtiff=big)
    assert np.array_equal(read_image(path, "dtype"), np.rint(NOISE[..., :3] / 257))
    assert read_size(path) == (30, 40)


def test_planes_and_pixels_are_the_same_picture(tmp_path):
    path = save_tiff(tmp_path / "a.tif", np.moveaxis(NOISE[..., :3], -1, 0), planarconfig="separate")
    assert np.array_equal(read_image(path, "dtype"), np.rint(NOISE[..., :3] / 257))
    assert read_size(path) == (30, 40)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_is_turned_round(tmp_path, dtype):
    top = np.iinfo(dtype).max
    path = save_tiff(tmp_path / "a.tif", np.array([[0, top]], dtype), photometric="miniswhite")
    assert read_image(path, "dtype")[0, :, 0].tolist() == [255, 0]


def test_grey_with_alpha_is_grey(tmp_path):
    for dtype in (np.uint8, np.uint16):
        picture = NOISE[..., :2].astype(dtype)
        path = save_tiff(tmp_path / "a.tif", picture, planarconfig="contig", extrasamples=["unassalpha"])
        expected = picture[..., 0] if dtype == np.uint8 else np.rint(picture[..., 0] / 257)
        assert np.array_equal(read_image(path, "dtype"), np.dstack([expected] * 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [2, 5, 7])
def test_other_numbers_of_bands_are_refused_with_their_number(messages, tmp_path, dtype, bands):
    picture = np.zeros((6, 8, bands), dtype)
    path = save_tiff(tmp_path / "a.tif", picture, photometric="minisblack", planarconfig="contig")
    messages.refusal(lambda: read_image(path), "a.tif: ", f"{bands} bands")
    messages.refusal(lambda: read_size(path), "a.tif: ", f"{bands} bands")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_compressed_grey_is_read_by_pillow(tmp_path, dtype):
    picture = NOISE[..., 0].astype(dtype)
    path = save(tmp_path / "a.tif", picture, compression="tiff_lzw")
    assert np.array_equal(read_image(path), read_image(save_tiff(tmp_path / "b.tif", picture)))


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


def test_floats_beyond_one_need_another_rule(messages, tmp_path):
    path = save_tiff(tmp_path / "a.tif", np.array([[-3, 250.5]], np.float32))
    messages.refusal(lambda: read_image(path, "dtype"), "a.tif: ", "from -3 to 250.5", "data.intensity=dtype")
    assert read_image(path, "range")[0, :, 0].tolist() == [0, 255]


def test_an_unknown_rule_is_refused(messages, tmp_path):
    path = save(tmp_path / "a.png", RAMP)
    messages.refusal(lambda: read_image(path, "auto"), "data.intensity=auto", "percentile, range, dtype")


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


@pytest.mark.parametrize("orientation", [*range(1, 9), 99])
@pytest.mark.parametrize("kind", ["grey8.tif", "rgb8.tif", "grey16.png", "grey16.tif", "rgb16.tif", "rgb16.png"])
def test_every_decoder_turns_images_upright(tmp_path, orientation, kind):
    rgb, deep = kind.startswith("rgb"), "16" in kind
    stored = (NOISE[..., :3] if rgb else NOISE[..., 0]) if deep else (NOISE[..., : 3 if rgb else 1] >> 8)
    stored = stored.squeeze().astype(np.uint16 if deep else np.uint8)
    path = tmp_path / kind
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if kind == "rgb16.png":  # neither library writes it: a chunk behind the header, taken from a small PNG
        donor = save(tmp_path / "donor.png", np.zeros((1, 1), np.uint8), exif=exif).read_bytes()
        start = donor.index(b"eXIf") - 4
        chunk = donor[start : start + 12 + int.from_bytes(donor[start : start + 4], "big")]
        data = save_png(path, stored).read_bytes()
        path.write_bytes(data[:33] + chunk + data[33:])
    elif kind == "rgb16.tif":
        save_tiff(path, stored, extratags=[(ORIENTATION, 3, 1, orientation, True)])
    else:
        save(path, stored, exif=exif)
    plain = tmp_path / f"plain.{kind[-3:]}"
    upright = read_image(save_png(plain, stored) if kind == "rgb16.png" else save_tiff(plain, stored))
    turned = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright),
    }.get(orientation, upright)
    assert np.array_equal(read_image(path), turned)
    assert read_size(path) == turned.shape[:2]


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp"])
def test_a_file_of_several_pages_is_refused_unless_one_is_chosen(messages, tmp_path, suffix):
    first, *others = (Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (0, 100, 200))
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", first, save_all=True, append_images=others, **options)
    for read in (read_image, read_size):
        with messages.raises(DataError, f"a.{suffix}: ", "3 pages"):
            read(path)
        with messages.raises(DataError, f"a.{suffix}: ", "3 pages", "data.page=3"):
            read(path, page=3)
    assert [int(read_image(path, page=page)[0, 0, 0]) for page in range(3)] == [0, 100, 200]
    assert read_size(path, page=2) == (6, 8)


def test_a_page_of_16_bit_colors_may_be_chosen(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([NOISE[..., :3], NOISE[..., 1:]]), photometric="rgb")
    assert np.array_equal(read_image(path, "dtype", page=1), np.rint(NOISE[..., 1:] / 257))


def test_a_chosen_page_lets_files_of_one_page_be(tmp_path):
    assert read_image(save(tmp_path / "a.png", np.full((6, 8), 7, np.uint8)), page=4).max() == 7


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_every_decoder_reads_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9 = #1, (x)")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system allows UTF-8 names only")
    for name, array in (("a.png", NOISE[..., :3]), ("b.tif", NOISE[..., :3]), ("c.png", NOISE[..., 0])):
        path = (save_tiff if name.endswith("tif") else save_png)(folder / name, array)
        assert read_image(path).shape == (30, 40, 3)
        assert read_size(path) == (30, 40)


@pytest.mark.parametrize("kind", ["a.png", "a.tif"])
def test_the_size_of_16_bit_colors_is_known_without_decoding_them(tmp_path, monkeypatch, kind):
    path = (save_png if kind == "a.png" else save_tiff)(tmp_path / kind, NOISE[..., :3])
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    monkeypatch.setattr("cv2.imdecode", None)
    monkeypatch.setattr("tifffile.TiffPage.asarray", None)
    assert read_size(path) == (30, 40)


@pytest.mark.skipif("SAM_FT_DATA" not in os.environ, reason="needs the folder of odd formats")
def test_all_odd_formats_are_read():
    from pathlib import Path

    files = [path for path in (Path(os.environ["SAM_FT_DATA"]) / "odd_formats").rglob("*.*") if path.is_file()]
    assert files
    for path in files:
        image = read_image(path)
        assert read_size(path) == image.shape[:2]
        assert len(np.unique(image)) > 80


def test_compressed_signed_bytes_are_not_taken_for_unsigned_ones(messages, tmp_path, monkeypatch):
    path = save(tmp_path / "a.tif", np.array([[0, 255]], np.uint8), compression="tiff_lzw", tiffinfo={339: 2})
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {1: None})
    messages.refusal(lambda: read_image(path), "a.tif: ", "int8", "LZW")
