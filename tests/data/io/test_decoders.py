"""Each decoder reads the same picture: byte orders, planes, orientation, pages, names of files."""

import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.images import read_image, read_size
from sam_ft.utils.errors import DataError
from tests.support.files import ORIENTATION, save

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


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_compressed_grey_is_read_by_pillow(tmp_path, dtype):
    picture = NOISE[..., 0].astype(dtype)
    path = save(tmp_path / "a.tif", picture, compression="tiff_lzw")
    assert np.array_equal(read_image(path), read_image(save_tiff(tmp_path / "b.tif", picture)))


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
