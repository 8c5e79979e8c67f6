"""Masks that hold an id or a color for each instance."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.class_masks import read_class_mask
from sam_ft.data.io.classes import ClassMap
from sam_ft.data.io.masks import read_instance_mask
from sam_ft.utils.errors import DataError
from tests.data.io.test_binary_masks import DISC
from tests.support.files import ORIENTATION, palette, save


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
    with messages.raises(DataError, "m.tif: ", "0 to 70000", "number the objects"):
        read_instance_mask(save(tmp_path / "m.tif", np.array([[0, 70000]], np.int32)))


def test_negative_ids_are_refused_unless_they_are_named(messages, tmp_path):
    path = save(tmp_path / "m.tif", np.array([[-1, -1, 0], [5, 5, 5]], np.int32))
    with messages.raises(DataError, "m.tif: ", "-1 to 5", "data.background=-1", "data.ignore_index"):
        read_instance_mask(path)
    assert read_instance_mask(path, background=-1)[0].tolist() == [[0, 0, 6], [5, 5, 5]]
    ids, ignored, _ = read_instance_mask(path, ignore_index=-1)
    assert ids.tolist() == [[0, 0, 0], [5, 5, 5]]
    assert ignored.tolist() == [[True, True, False], [False] * 3]


def test_the_mean_of_ids_is_refused_where_they_differ(messages, tmp_path):
    ids = np.array([[0, 0, 4], [2, 2, 4]], np.uint8)
    for name, pages in (("equal", [ids, ids]), ("other", [ids, ids[:, ::-1]])):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.stack(pages), metadata={"axes": "ZYX"}, photometric="minisblack")
    assert read_instance_mask(tmp_path / "equal.tif", page="mean")[0].tolist() == ids.tolist()
    classes = ClassMap.from_config({"a": 2, "b": 4}, other="background")
    assert read_class_mask(tmp_path / "equal.tif", classes, "mean")[0].tolist() == (ids // 2).tolist()
    for read in (
        lambda path: read_instance_mask(path, page="mean"),
        lambda path: read_class_mask(path, classes, "mean"),
    ):
        messages.refusal(lambda read=read: read(tmp_path / "other.tif"), "other.tif: ", "data.projection=max")
