import cv2
import numpy as np
import pytest
from PIL import Image

from sam_ft.data.reading import read_binary_mask, read_image, read_instance_mask, read_mask, read_size
from sam_ft.errors import DataError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
DISC = np.zeros((96, 128), np.uint8)
cv2.circle(DISC, (60, 45), 30, 255, -1)
ORIENTATION = 0x0112


def save(path, array, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def palette(indices, colours=(10, 20, 30, 200, 100, 50, 0, 0, 255, 7, 7, 7)):
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(colours)
    return image


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


def test_a_palette_image_has_its_colours_and_alpha_is_dropped(tmp_path):
    indices = np.array([[0, 1], [2, 1]])
    expected = [[[10, 20, 30], [200, 100, 50]], [[0, 0, 255], [200, 100, 50]]]
    plain = save(tmp_path / "plain.png", palette(indices))
    see_through = save(tmp_path / "see.png", palette(indices), transparency=b"\x00\x80\xff")
    assert read_image(plain).tolist() == read_image(see_through).tolist() == expected
    rgba = save(tmp_path / "rgba.png", np.array([[[1, 2, 3, 0]]], np.uint8))
    assert read_image(rgba).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32), ("tif", np.float32)]
)
def test_images_of_more_than_8_bits_are_refused(tmp_path, suffix, dtype):
    path = save(tmp_path / f"a.{suffix}", GREY.astype(dtype))
    with pytest.raises(DataError, match=rf"a\.{suffix}: .*more than 8 bits.*convert it to 8 bits"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_truncated_file_is_refused(tmp_path, suffix, read):
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"a\.{suffix}: cannot be read \(.+\); check"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        read_image(tmp_path / "a.png")


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be read .*No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("limit", [20, 40])  # Pillow fails above twice its limit and warns above it
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"a\.png: too large to read .*tiles"):
        read_image(path)


def test_a_file_of_several_pages_is_refused(tmp_path):
    page = Image.fromarray(GREY)
    path = save(tmp_path / "a.tif", page, save_all=True, append_images=[page, page])
    with pytest.raises(DataError, match=r"a\.tif: holds 3 pages; expected one"):
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
    image, (mask, _) = read_image(image_path), read_binary_mask(mask_path)
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


@pytest.mark.parametrize(
    "stored",
    [DISC, DISC // 255, DISC > 0, palette(DISC // 255), (DISC // 255).astype(np.uint16), np.dstack([DISC] * 3)],
    ids=["0-255", "0-1", "1 bit", "palette", "16 bit", "three equal channels"],
)
def test_binary_masks_are_read(tmp_path, stored):
    mask, lossy = read_binary_mask(save(tmp_path / "m.png", stored))
    assert np.array_equal(mask, DISC > 0)
    assert not lossy


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value):
    mask, lossy = read_binary_mask(save(tmp_path / "m.png", np.full((3, 4), value, np.uint8)))
    assert mask.mean() == (value > 0)
    assert not lossy


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
@pytest.mark.parametrize("thickness", [-1, 2], ids=["disc", "thin ring"])
def test_jpeg_masks_are_cut_at_half(tmp_path, quality, thickness):
    drawn = np.zeros((96, 128), np.uint8)
    cv2.circle(drawn, (60, 45), 30, 255, thickness)
    path = save(tmp_path / "m.jpg", drawn, quality=quality)
    assert len(np.unique(read_mask(path))) > 2
    mask, lossy = read_binary_mask(path)
    assert lossy
    assert np.array_equal(mask, drawn > 0) or quality < 90
    assert (mask == (drawn > 0)).mean() > 0.99


def test_a_smoothly_resized_mask_is_cut_at_half(tmp_path):
    large = cv2.resize(DISC, (300, 200), interpolation=cv2.INTER_LINEAR)
    mask, lossy = read_binary_mask(save(tmp_path / "m.png", large))
    assert lossy
    assert np.array_equal(mask, large > 127)


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ([0, 1, 2, 3], "0, 1, 2, 3;"),
        ([0, 128, 255], "0, 128, 255;"),
        ([0, 1, 255], "0, 1, 255;"),
        ([0, 7], "0, 7;"),
        ([5, 255], "5, 255;"),
        ([0, *range(10, 250, 20), 255], r"0, 10, 30, 50, 70, 90, 110, 130, \.\.\.;"),
    ],
)
def test_a_mask_of_other_values_is_refused_and_named(tmp_path, levels, shown):
    bands = np.repeat(np.array(levels, np.uint8), 8)[None].repeat(16, 0)
    path = save(tmp_path / "m.png", bands)
    with pytest.raises(DataError, match=rf"m\.png: the mask has the values {shown}") as caught:
        read_binary_mask(path)
    assert "data.objects=instances" in str(caught.value)
    assert "no multi-class setting" in str(caught.value)


def test_many_instance_ids_are_not_mistaken_for_a_lossy_mask(tmp_path):
    tiles = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((6, 6), np.uint8))
    with pytest.raises(DataError, match="instances"):
        read_binary_mask(save(tmp_path / "m.png", tiles))


def test_classes_with_a_void_border_are_not_mistaken_for_a_lossy_mask(tmp_path):
    classes = np.zeros((96, 128), np.uint8)
    for x, value in ((20, 3), (60, 12), (100, 17)):
        cv2.circle(classes, (x, 45), 15, value, -1)
        cv2.circle(classes, (x, 45), 15, 255, 3)
    with pytest.raises(DataError, match="0, 3, 12, 17, 255;"):
        read_binary_mask(save(tmp_path / "m.png", classes))


def test_a_photograph_is_not_taken_for_a_mask(tmp_path):
    photo = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), (0, 0), 3)
    photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX)
    with pytest.raises(DataError, match="the mask has the values"):
        read_binary_mask(save(tmp_path / "m.png", photo))


def test_a_mask_with_colours_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with pytest.raises(DataError, match=r"m\.png: the mask has colours; expected one value a pixel"):
        read_binary_mask(path)


def test_a_mask_of_fractions_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"m\.tif: the mask is stored as Pillow mode F"):
        read_binary_mask(save(tmp_path / "m.tif", GREY.astype(np.float32)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_instance_ids_are_read_as_stored(tmp_path, suffix, dtype):
    ids = np.array([[0, 1, 255], [7, 7, 200 if dtype == np.uint8 else 60000]], dtype)
    assert read_instance_mask(save(tmp_path / f"m.{suffix}", ids)).tolist() == ids.tolist()


def test_instance_ids_of_a_palette_are_its_indices(tmp_path):
    ids = np.array([[0, 1], [2, 3]])
    assert read_instance_mask(save(tmp_path / "m.png", palette(ids))).tolist() == ids.tolist()


def test_16_bit_masks_are_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    ids = np.array([[1000, 2000, 3000], [0, 0, 4000]], np.uint16)
    assert read_instance_mask(save(tmp_path / "m.png", ids, exif=exif)).tolist() == np.rot90(ids, -1).tolist()


def test_instance_ids_in_a_jpeg_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"m\.JPG: JPEG changes pixel values.*save the ids as PNG"):
        read_instance_mask(save(tmp_path / "m.JPG", DISC))


def test_instance_ids_out_of_range_are_refused(tmp_path):
    with pytest.raises(DataError, match="from 0 to 70000; expected 0"):
        read_instance_mask(save(tmp_path / "m.tif", np.array([[0, 70000]], np.int32)))
