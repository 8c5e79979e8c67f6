import itertools

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sam_ft.data.io.images import image_tensor, read_image
from sam_ft.data.io.percentiles import percentiles_in_passes
from sam_ft.data.io.windows import ImageWindows
from sam_ft.utils.errors import DataError
from tests.support.files import ORIENTATION, palette, save

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 70, 50
NOISE = RNG.integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)
BYTES = (NOISE >> 8).astype(np.uint8)
# Whole, inside, one pixel, corners, across the borders of the tiles (32) and of the strips (7).
WINDOWS = [
    (0, HEIGHT, 0, WIDTH),
    (10, 40, 20, 45),
    (33, 34, 31, 32),
    (0, 1, 0, WIDTH),
    (69, 70, 49, 50),
    (27, 70, 0, 33),
]


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return {"exif": exif}


def tiff(path, values, **options):
    kind = "rgb" if values.ndim == 3 and 3 in (values.shape[0], values.shape[-1]) else "minisblack"
    tifffile.imwrite(path, values, **{"photometric": kind, **options})
    return path


def assert_equal_windows(path, intensity="percentile", page=None):
    whole = image_tensor(read_image(path, intensity, page))
    with ImageWindows(path, intensity, page) as image:
        assert image.size == tuple(whole.shape[1:])
        for top, bottom, left, right in WINDOWS:
            (height, width), (top, left) = image.size, (min(top, image.size[0] - 1), min(left, image.size[1] - 1))
            rows, columns = slice(top, min(bottom, height)), slice(left, min(right, width))
            window = image.read(rows, columns)
            assert window.dtype == torch.uint8
            assert torch.equal(window, whole[:, rows, columns])
        assert torch.equal(image[:, 5:9, :-2], whole[:, 5:9, :-2])


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 16)},
    "compressed strip": {"compression": "zlib"},
    "compressed strips": {"compression": "zlib", "rowsperstrip": 7},
    "compressed tiles": {"compression": "zlib", "tile": (32, 16)},
    "other byte order": {"byteorder": ">"},
    "compressed, other byte order": {"byteorder": ">", "compression": "zlib", "rowsperstrip": 7},
}


@pytest.mark.parametrize("bands", [1, 3, "planes"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_of_a_tiff_of_any_layout(tmp_path, layout, bands):
    picture = NOISE[..., 0] if bands == 1 else NOISE[..., :3]
    more = {}
    if bands == "planes":
        picture, more = np.moveaxis(picture, -1, 0), {"planarconfig": "separate"}
    assert_equal_windows(tiff(tmp_path / "a.tif", picture, **LAYOUTS[layout], **more))


@pytest.mark.parametrize("picture", [NOISE[..., 0], BYTES[..., :3]])
def test_windows_of_a_tiff_that_stores_differences_of_neighbors(tmp_path, picture):
    predictor = {"tiffinfo": {317: 2}}
    assert_equal_windows(save(tmp_path / "a.tif", picture, compression="tiff_adobe_deflate", **predictor))


@pytest.mark.parametrize("dtype", ["i1", "i2", "u4", "i4", "f2", "f4", "f8", "u1"])
@pytest.mark.parametrize("intensity", ["percentile", "range"])
@pytest.mark.parametrize("layout", ["one strip", "compressed tiles"])
def test_windows_of_any_type_have_the_scale_of_the_whole(tmp_path, dtype, intensity, layout):
    values = (NOISE[..., :3].astype(np.float64) - 30000) / 700
    values = values if dtype[0] == "f" else values.astype(np.int64) * (1 if dtype[1] == "1" else 300)
    assert_equal_windows(tiff(tmp_path / "a.tif", values.astype(dtype), **LAYOUTS[layout]), intensity)


def test_windows_of_alpha_white_is_zero_and_the_full_range(tmp_path):
    alpha = {"extrasamples": ["unassalpha"]}
    assert_equal_windows(tiff(tmp_path / "rgba.tif", NOISE, photometric="rgb", **alpha))
    assert_equal_windows(tiff(tmp_path / "la.tif", NOISE[..., :2], planarconfig="contig", **alpha))
    assert_equal_windows(tiff(tmp_path / "white.tif", NOISE[..., 0], photometric="miniswhite"), "dtype")
    assert_equal_windows(tiff(tmp_path / "flat.tif", np.full((HEIGHT, WIDTH), 9, np.uint16)))


def test_windows_of_one_page(tmp_path):
    path = tiff(tmp_path / "a.tif", NOISE[..., :2].transpose(2, 0, 1).copy(), photometric="minisblack")
    for page in (0, 1):
        assert_equal_windows(path, page=page)
    with pytest.raises(DataError, match="pages"):
        ImageWindows(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_turned_images_are_upright(tmp_path, orientation):
    assert_equal_windows(save(tmp_path / "a.jpg", BYTES[..., :3], **turned(orientation)))
    assert_equal_windows(save(tmp_path / "a.png", BYTES[..., :3], **turned(orientation)))
    extra = [(ORIENTATION, "H", 1, orientation, True)]
    assert_equal_windows(tiff(tmp_path / "a.tif", NOISE[..., :3], tile=(32, 16), extratags=extra))


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [*itertools.product(["png"], ["L", "RGB", "RGBA", "LA", "1"]), ("jpg", "L"), ("jpg", "CMYK"), ("webp", "RGB")],
)
def test_windows_of_other_formats(tmp_path, suffix, mode):
    assert_equal_windows(save(tmp_path / f"a.{suffix}", Image.fromarray(BYTES[..., :3]).convert(mode)))


def test_windows_of_palettes_deep_pngs_and_what_only_pillow_decompresses(tmp_path):
    indices = BYTES[..., 0] % 4
    assert_equal_windows(save(tmp_path / "p.png", palette(indices)))
    assert_equal_windows(save(tmp_path / "see.png", palette(indices), transparency=b"\x00\x80\xff"))
    assert_equal_windows(save(tmp_path / "p.tif", palette(indices)))
    assert_equal_windows(save(tmp_path / "gray.png", NOISE[..., 0]))
    assert_equal_windows(save(tmp_path / "lzw.tif", NOISE[..., 0], compression="tiff_lzw"))
    deep = tmp_path / "deep.png"
    deep.write_bytes(cv2.imencode(".png", NOISE[..., :3])[1].tobytes())
    assert_equal_windows(deep)


def test_a_large_image_is_refused_only_where_it_must_be_decoded_as_a_whole(messages, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    png = save(tmp_path / "a.png", BYTES[..., :3])
    strip = tiff(tmp_path / "strip.tif", NOISE[..., 0], compression="zlib", rowsperstrip=60)
    tiles = tiff(tmp_path / "tiles.tif", NOISE[..., 0], compression="zlib", tile=(16, 16))
    messages.refusal(lambda: ImageWindows(png, limit=4999), "a.png: ", "50 wide and 70 high", "tiled TIFF")
    messages.refusal(lambda: ImageWindows(strip, limit=4999), "strip.tif: ", "60 rows", "tiled TIFF")
    with ImageWindows(tiles, limit=4999) as image:
        assert image.read(slice(0, 70), slice(0, 50)).shape == (3, 70, 50)
    with ImageWindows(png, limit=14000) as image:  # 4 bytes a pixel
        assert torch.equal(image.read(slice(1, 2), slice(3, 7)), image_tensor(BYTES[1:2, 3:7, :3].copy()))
    assert Image.MAX_IMAGE_PIXELS == 100


def test_values_that_are_no_numbers_and_cut_files_are_refused(messages, tmp_path):
    values = np.ones((HEIGHT, WIDTH), np.float32)
    values[3, 4] = np.nan
    with ImageWindows(tiff(tmp_path / "nan.tif", values, tile=(16, 16))) as image:
        messages.refusal(lambda: image.read(slice(60, 70), slice(0, 9)), "nan.tif: 1 ", "NaN")
    cut = tiff(tmp_path / "cut.tif", NOISE[..., 0])
    cut.write_bytes(cut.read_bytes()[:3000])
    with ImageWindows(cut) as image, pytest.raises(DataError, match=r"cut\.tif: "):
        image.read(slice(60, 70), slice(0, 9))


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8"])
def test_percentiles_in_passes_are_numpy_s(dtype):
    for count in (1, 2, 999, 5000):
        values = RNG.normal(0, 300, count).astype(dtype)
        values[: count // 3] = values[0]  # many equal ones
        percents = (0.5, 30, 50, 99.5, 100)
        found = percentiles_in_passes(lambda values=values: np.array_split(values, 3), values.dtype, count, percents)
        assert found == np.percentile(values, percents).tolist()


def test_values_are_those_of_the_file_with_all_bits(tmp_path):
    deep = tiff(tmp_path / "deep.tif", NOISE[..., :3], tile=(32, 32))
    big_endian = tiff(tmp_path / "big.tif", NOISE[..., 0], byteorder=">")
    floats = tiff(tmp_path / "float.tif", NOISE[..., 0].astype(np.float32) / 7)
    expected = {
        deep: NOISE[..., :3],
        big_endian: NOISE[..., :1],
        floats: NOISE[..., :1].astype(np.float32) / 7,
        save(tmp_path / "gray.png", BYTES[..., 0]): BYTES[..., :1],
        save(tmp_path / "alpha.png", BYTES): BYTES[..., :3],
        save(tmp_path / "turned.jpg", BYTES[..., :3], quality=95, **turned(6)): read_image(tmp_path / "turned.jpg"),
    }
    for path, values in expected.items():
        with ImageWindows(path) as image:
            window = image.values[:, 10:40, 20:45]
            assert np.array_equal(window.numpy(), values[10:40, 20:45].transpose(2, 0, 1)), path.name
            assert window.numpy().dtype == values.dtype
