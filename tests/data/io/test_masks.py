import os
import pickle

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.lossy import LOSSY
from sam_ft.data.io.masks import read_binary_mask, read_instance_mask, read_mask
from sam_ft.data.io.objects import read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.utils.errors import DataError
from tests.support.files import ORIENTATION, palette, refusal, save

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
DISC = np.zeros((96, 128), np.uint8)
cv2.circle(DISC, (60, 45), 30, 255, -1)


@pytest.mark.parametrize(
    "stored",
    [DISC, DISC // 255, DISC > 0, palette(DISC // 255), (DISC // 255).astype(np.uint16), np.dstack([DISC] * 3)],
    ids=["0-255", "0-1", "1 bit", "palette", "16 bit", "three equal channels"],
)
def test_binary_masks_are_read(tmp_path, stored):
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", stored))
    assert np.array_equal(mask, DISC > 0)
    assert not remarks


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path, value):
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", np.full((3, 4), value, np.uint8)))
    assert mask.mean() == (value > 0)
    assert not remarks


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


@pytest.mark.parametrize(
    ("levels", "shown"),
    [
        ([0, 1, 2, 3], "0, 1, 2, 3;"),
        ([0, 128, 255], "0, 128, 255;"),
        ([0, 1, 255], "0, 1, 255;"),
        ([0, 7], "0, 7;"),
        ([5, 255], "5, 255;"),
        ([0, 1, 1, 1, 255], "0, 1, 255;"),
        ([1, 1, 1, 3, 12, 17, 255], "1, 3, 12, 17, 255;"),
        ([0, *range(10, 250, 20), 255], "0, 10, 30, 50, 70, 90, 110, 130, ...;"),
    ],
)
def test_a_mask_of_other_values_is_refused_and_named(messages, tmp_path, levels, shown):
    bands = np.repeat(np.array(levels, np.uint8), 8)[None].repeat(16, 0)
    path = save(tmp_path / "m.png", bands)
    with messages.raises(DataError, "m.png: ", f" {shown}", "data.objects=instances", "data.objects=classes"):
        read_binary_mask(path)


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


def test_a_mask_with_colors_is_refused(messages, tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    with messages.raises(DataError, "m.png: "):
        read_binary_mask(path)


def test_a_mask_of_fractions_is_refused(messages, tmp_path):
    with messages.raises(DataError, "m.tif: ", "float32", " 0.25;"):
        read_binary_mask(save(tmp_path / "m.tif", GREY.astype(np.float32) / 20))
    with messages.raises(DataError, "m.tif: ", "float32", " nan;"):
        read_instance_mask(save(tmp_path / "m.tif", np.full((3, 4), np.nan, np.float32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_whole_floats_are_read_as_ids(tmp_path, dtype):
    ids = np.array([[0, 1, 2], [7, 300, 2048]])
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, ids.astype(dtype))
    found, *_ = read_instance_mask(path)
    assert found.tolist() == ids.tolist()
    tifffile.imwrite(path, (DISC > 0).astype(dtype))
    assert np.array_equal(read_binary_mask(path)[0], DISC > 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32])
def test_the_largest_number_of_a_type_is_white(tmp_path, dtype):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.where(DISC > 0, np.iinfo(dtype).max, 0).astype(dtype))
    mask, ignored, remarks = read_binary_mask(path)
    assert np.array_equal(mask, DISC > 0)
    assert (ignored, remarks) == (None, ())


def test_gray_edges_of_16_bits_are_cut_at_half(tmp_path):
    blurred = cv2.GaussianBlur(DISC, (5, 5), 0)
    mask, _, remarks = read_binary_mask(save(tmp_path / "m.png", blurred.astype(np.uint16) * 257))
    assert remarks == (LOSSY,)
    assert np.array_equal(mask, blurred > 127)


def test_ids_beside_65535_are_not_taken_for_black_and_white(tmp_path):
    with pytest.raises(DataError, match=r"m\.png: .*0, 1, 65535"):
        read_binary_mask(save(tmp_path / "m.png", np.array([[0, 1, 65535]], np.uint16)))


@pytest.mark.parametrize("background", [255, [255], [255, 7]])
def test_the_background_of_a_binary_mask_may_have_another_value(tmp_path, background):
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", 255 - DISC), background=background)
    assert np.array_equal(mask, DISC > 0)
    assert ignored is None


def test_a_trimap_is_read(tmp_path):
    trimap = np.where(DISC > 0, 1, 2).astype(np.uint8)  # 1 the object, 2 the background, 3 its border
    trimap[cv2.dilate(DISC, np.ones((5, 5))) != DISC] = 3
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", trimap), ignore_index=3, background=2)
    assert np.array_equal(mask, DISC > 0)
    assert np.array_equal(ignored, trimap == 3)


@pytest.mark.parametrize(("dtype", "background"), [(np.uint8, 255), (np.uint16, 65535), (np.int32, -1)])
def test_ids_from_0_have_another_background(tmp_path, dtype, background):
    ids = np.array([[0, 0, 1], [2, 2, 1], [3, 3, 3]], np.int64)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.where(ids == 3, background, ids).astype(dtype))
    found, *_ = read_instance_mask(path, background=background)
    for number, value in enumerate([found[0, 0], 1, 2, 0]):
        assert np.array_equal(found == value, ids == number)
    assert found[0, 0] not in (0, 1, 2)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_each_color_is_an_instance(tmp_path, suffix):
    ids = np.kron(np.array([[0, 1, 2], [0, 3, 9]]), np.ones((4, 4), np.int64))
    colors = np.random.default_rng(0).integers(1, 256, (10, 3), np.uint8)
    colors[0] = 0
    path = save(tmp_path / f"m.{suffix}", colors[ids])
    found, ignored, _ = read_instance_mask(path)
    assert ignored is None
    assert len(np.unique(found)) == 5
    assert all(len(np.unique(found[ids == one])) == 1 for one in np.unique(ids))
    assert (found[ids == 0] == 0).all()
    found, ignored, _ = read_instance_mask(
        path, ignore_index=colors[9].tolist(), background=[[0, 0, 0], colors[1].tolist()]
    )
    assert np.array_equal(found > 0, np.isin(ids, (2, 3)))
    assert np.array_equal(ignored, ids == 9)


def test_an_id_to_ignore_is_no_color(messages, tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8))
    messages.refusal(lambda: read_instance_mask(path, ignore_index=255), "m.png: ", "data.ignore_index=255", "color")


def test_colors_with_blended_edges_are_no_instances(messages, tmp_path):
    rgb = np.dstack([DISC, DISC // 2, DISC // 3])
    path = save(tmp_path / "m.png", cv2.GaussianBlur(rgb, (5, 5), 0))
    messages.refusal(lambda: read_instance_mask(path), "m.png: ", "edges", "nearest-neighbor")
    photo = save(tmp_path / "p.png", np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8))
    messages.refusal(lambda: read_instance_mask(photo), "p.png: ", "picture")


def test_many_small_instances_of_a_color_each_are_no_blended_edges(tmp_path):
    colors = np.random.default_rng(0).integers(1, 256, (48, 64, 3), np.uint8)
    mask = np.zeros((96 * 4, 128 * 4, 3), np.uint8)
    mask[::8, ::8] = mask[1::8, ::8] = mask[::8, 1::8] = colors  # of three pixels
    found, *_ = read_instance_mask(save(tmp_path / "m.png", mask))
    assert len(np.unique(found)) == len(np.unique(colors.reshape(-1, 3), axis=0)) + 1


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float64])
def test_arrays_are_masks(tmp_path, suffix, dtype):
    path = tmp_path / f"m.{suffix}"
    values = (DISC > 0).astype(dtype)
    np.save(path, values) if suffix == "npy" else np.savez_compressed(path, img=np.zeros((3, 4, 5)), masks=values)
    assert np.array_equal(read_binary_mask(path)[0], DISC > 0)
    assert np.array_equal(read_instance_mask(path)[0], DISC > 0)


def test_an_array_may_have_further_axes_of_length_one_and_any_order(tmp_path):
    np.save(tmp_path / "m.npy", np.asfortranarray(DISC)[None])
    assert np.array_equal(read_binary_mask(tmp_path / "m.npy")[0], DISC > 0)
    np.savez(tmp_path / "m.npz", DISC[..., None])
    assert np.array_equal(read_binary_mask(tmp_path / "m.npz")[0], DISC > 0)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_is_never_loaded(messages, tmp_path, suffix):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harmed"),))

    def write(content):
        path = tmp_path / f"a_seg.{suffix}"
        array = np.array(content, dtype=object)
        np.save(path, array, allow_pickle=True) if suffix == "npy" else np.savez(path, masks=array)
        return path

    for content in ({"harm": Harm()}, Harm(), {"masks": Harm()}, {"masks": [1, 2]}, {"masks": DISC.astype(object)}):
        path = write(content)
        messages.refusal(lambda path=path: read_instance_mask(path), f"a_seg.{suffix}: ", "_cp_masks")
    assert np.array_equal(read_instance_mask(write({"harm": Harm(), "masks": DISC}))[0], DISC)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])  # those of np.save
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "u1", "bool"])
def test_the_masks_of_cellpose_are_found(tmp_path, protocol, dtype):
    ids = (np.arange(48).reshape(6, 8) % 2).astype(dtype)
    content = {
        "outlines": ids * 0,
        "colors": [(1, 2, 3), None],
        "masks": ids,
        "flows": [ids.astype(np.float32), [1, 2.5, True, 2**70, b"x"]],
        "filename": "ä.png",
        "est_diam": np.float64(30),
    }
    path = tmp_path / "a_seg.npy"
    np.save(path, np.array(0, dtype=object), allow_pickle=True)
    header = path.read_bytes()[:128]
    path.write_bytes(header + pickle.dumps(np.array(content, dtype=object), protocol=protocol))
    assert np.array_equal(read_instance_mask(path)[0], ids)


def test_a_cut_pickle_is_refused(messages, tmp_path):
    path = tmp_path / "a_seg.npy"
    np.save(path, np.array({"masks": DISC}, dtype=object), allow_pickle=True)
    for length in range(130, path.stat().st_size, 997):
        (tmp_path / "b_seg.npy").write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"b_seg\.npy: holds Python objects"):
            read_instance_mask(tmp_path / "b_seg.npy")


def test_arrays_that_are_no_masks_are_refused(messages, tmp_path, monkeypatch):
    def refused(values, *facts):
        np.save(tmp_path / "m.npy", values)
        messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ", *facts)

    refused(np.zeros((3, 6, 8), np.uint8), "(3, 6, 8)", "(H, W)")
    refused(np.zeros(8, np.uint8), "(8,)")
    refused(np.array([["a"]]), "<U1")
    np.savez(tmp_path / "m.npz", a=DISC, b=DISC)
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npz"), "m.npz: ", "a, b", "masks")
    (tmp_path / "m.npy").write_bytes(b"no array")
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refused(np.zeros((6, 8), np.uint8), "too large")


def test_a_forged_shape_allocates_nothing(messages, tmp_path):
    head = b"{'descr': '<u2', 'fortran_order': False, 'shape': (900000, 900000), }"
    head = head.ljust(117) + b"\n"
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ", "too large", "900000")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_instance_ids_are_read_as_stored(tmp_path, suffix, dtype):
    ids = np.array([[0, 1, 255], [7, 7, 200 if dtype == np.uint8 else 60000]], dtype)
    assert read_instance_mask(save(tmp_path / f"m.{suffix}", ids))[0].tolist() == ids.tolist()


def test_instance_ids_of_a_palette_are_its_indices(tmp_path):
    ids = np.array([[0, 1], [2, 3]])
    assert read_instance_mask(save(tmp_path / "m.png", palette(ids)))[0].tolist() == ids.tolist()


def test_16_bit_masks_are_turned_upright_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    ids = np.array([[1000, 2000, 3000], [0, 0, 4000]], np.uint16)
    assert read_instance_mask(save(tmp_path / "m.png", ids, exif=exif))[0].tolist() == np.rot90(ids, -1).tolist()


def test_instance_ids_in_a_jpeg_are_refused(messages, tmp_path):
    with messages.raises(DataError, "m.JPG: ", "PNG"):
        read_instance_mask(save(tmp_path / "m.JPG", DISC))


def test_instance_ids_out_of_range_are_refused(messages, tmp_path):
    with messages.raises(DataError, "m.tif: ", "0 to 70000"):
        read_instance_mask(save(tmp_path / "m.tif", np.array([[0, 70000]], np.int32)))


VOID = 255
VALUES = np.kron(np.array([[0, 1, 1, VOID], [0, 0, 1, VOID]], np.uint8), np.ones((4, 4), np.uint8))


def test_pixels_to_ignore_are_no_object_and_no_background(messages, tmp_path):
    path = save(tmp_path / "m.png", VALUES)
    with messages.raises(DataError, "m.png: ", "0, 1, 255;", "data.ignore_index"):
        read_binary_mask(path)
    mask, ignored, remarks = read_binary_mask(path, ignore_index=VOID)
    assert np.array_equal(mask, VALUES == 1)
    assert np.array_equal(ignored, VALUES == VOID)
    assert not remarks
    ids, ignored, _ = read_instance_mask(path, ignore_index=VOID)
    assert np.array_equal(ids, VALUES == 1)
    assert np.array_equal(ignored, VALUES == VOID)


def test_a_value_between_0_and_255_may_be_ignored(tmp_path):
    mask, ignored, _ = read_binary_mask(save(tmp_path / "m.png", np.array([[0, 128, 255]], np.uint8)), ignore_index=128)
    assert mask.tolist() == [[False, False, True]]
    assert ignored.tolist() == [[False, True, False]]


def test_what_is_ignored_is_never_an_object(tmp_path):
    path = save(tmp_path / "m.png", DISC)  # 0 and 255, which would be an object
    mask, ignored, _ = read_binary_mask(path, ignore_index=255)
    assert not mask.any()
    assert np.array_equal(ignored, DISC > 0)


@pytest.mark.parametrize("read", [read_binary_mask, read_instance_mask])
def test_nothing_is_ignored_where_there_is_nothing_to_ignore(tmp_path, read):
    kept, ignored, *_ = read(save(tmp_path / "m.png", DISC), ignore_index=128)
    assert np.array_equal(kept > 0, DISC > 0)
    assert ignored is None


def test_a_mask_with_values_to_ignore_must_be_exact(messages, tmp_path):
    blurred = cv2.GaussianBlur(DISC, (5, 5), 0)
    with messages.raises(DataError, "m.png: ", "data.ignore_index=128"):
        read_binary_mask(save(tmp_path / "m.png", blurred), ignore_index=128)
    with messages.raises(DataError, "m.jpg: ", "data.ignore_index=128"):
        read_binary_mask(save(tmp_path / "m.jpg", DISC), ignore_index=128)


def test_a_negative_value_may_be_ignored(tmp_path):
    ids, ignored, _ = read_instance_mask(save(tmp_path / "m.tif", np.array([[-1, 0, 7]], np.int32)), ignore_index=-1)
    assert ids.tolist() == [[0, 0, 7]]
    assert ignored.tolist() == [[True, False, False]]


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
