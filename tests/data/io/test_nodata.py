"""Pixels without data: of GeoTIFFs by their tag, or NaN."""

import warnings

import numpy as np
import pytest
import tifffile
import torch

from sam_ft.data.io.images import read_image, read_image_with_missing, read_missing
from sam_ft.data.io.nodata import GDAL_NODATA, GEO_KEYS
from sam_ft.data.io.windows import ImageWindows
from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.folder import Folder
from tests.data.sources.test_coco import annotation, image
from tests.data.sources.test_coco import make as make_coco
from tests.support.files import MASK, save

RAMP = np.linspace(0, 1, 30 * 40).reshape(30, 40)
GAP = np.zeros((30, 40), bool)
GAP[:4] = True
GAP[10, 5] = True


def geotiff(path, values, nodata=None, geo=False, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = [] if nodata is None else [(GDAL_NODATA, "s", 0, str(nodata), True)]
    tags += [(GEO_KEYS, "H", 4, (1, 1, 0, 0), True)] if geo else []
    kind = "minisblack" if values.ndim == 2 else "rgb"
    tifffile.imwrite(path, values, extratags=tags, photometric=kind, **options)
    return path


def with_gap(dtype, value):
    largest = 1 if np.dtype(dtype).kind == "f" else 200 if dtype == np.uint8 else 8000
    values = (1 + RAMP * largest).astype(dtype)
    values[GAP] = value
    return values


KINDS = {  # type, value of the pixels, tag
    "float": (np.float32, -9999, "-9999"),
    "rounded text": (np.float32, np.finfo(np.float32).min, "-3.40282e+38"),
    "double": (np.float64, np.finfo(np.float64).min, "-1.7976931348623157e+308"),
    "uint16": (np.uint16, 65535, "65535"),
    "zero": (np.uint16, 0, "0"),
    "int16": (np.int16, -32768, "-32768.0"),
    "nan": (np.float32, np.nan, "nan"),
    "infinite": (np.float32, -np.inf, "-inf"),
    "nan beside a number": (np.float32, np.nan, "-9999"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("intensity", ["percentile", "range"])
@pytest.mark.parametrize("bands", [1, 3])
def test_pixels_without_data_are_black_and_in_no_scale(tmp_path, kind, intensity, bands):
    dtype, value, tag = KINDS[kind]
    values = with_gap(dtype, value)
    path = geotiff(tmp_path / "a.tif", values if bands == 1 else np.dstack([values] * 3), tag)
    read, missing = read_image_with_missing(path, intensity)
    assert np.array_equal(missing, GAP)
    assert not read[GAP].any()
    known = read[~GAP][:, 0].astype(int)
    assert (known[0], known[-1]) == (0, 255)
    assert (np.diff(known) >= 0).all()
    assert len(np.unique(known)) > 200
    with ImageWindows(path, intensity) as windows:
        assert torch.equal(windows.read(slice(0, 30), slice(0, 40)), torch.from_numpy(read).permute(2, 0, 1))


def test_bytes_stay_and_their_pixels_without_data_are_known(tmp_path):
    values = with_gap(np.uint8, 255)
    path = geotiff(tmp_path / "a.tif", values, "255")
    read, missing = read_image_with_missing(path)
    assert np.array_equal(read[..., 0], values)
    assert np.array_equal(missing, GAP)
    assert np.array_equal(read_missing(path), GAP)


def test_a_pixel_lacks_data_only_where_all_bands_do(tmp_path):
    values = np.dstack([with_gap(np.uint16, 0)] * 3)
    values[20, 20, 0] = 0
    assert np.array_equal(read_missing(geotiff(tmp_path / "a.tif", values, "0")), GAP)
    alpha = np.dstack([values, np.full(GAP.shape, 9, np.uint16)])
    assert np.array_equal(read_missing(geotiff(tmp_path / "a.tif", alpha, "0", extrasamples=["unassalpha"])), GAP)


@pytest.mark.parametrize("tag", [None, "-9999", "70000", "none"])
def test_a_value_that_no_pixel_can_have_changes_nothing(tmp_path, tag):
    values = with_gap(np.uint16, 0)
    path = geotiff(tmp_path / "a.tif", values, tag)
    assert read_missing(path) is None
    assert np.array_equal(read_image(path), read_image(geotiff(tmp_path / "b.tif", values)))


def test_nan_of_a_geotiff_without_a_tag_is_no_data_and_that_of_other_files_is_refused(messages, tmp_path):
    values = with_gap(np.float32, np.nan)
    assert np.array_equal(read_missing(geotiff(tmp_path / "geo.tif", values, geo=True)), GAP)
    messages.refusal(lambda: read_image(geotiff(tmp_path / "a.tif", values)), "a.tif: 161 ", "NaN")
    infinite = geotiff(tmp_path / "b.tif", with_gap(np.float32, np.inf), "-9999")
    messages.refusal(lambda: read_image(infinite), "b.tif: 161 ", "infinite")


def test_an_image_without_any_data_is_black(tmp_path):
    path = geotiff(tmp_path / "a.tif", np.full((30, 40), -9999, np.float32), "-9999")
    read, missing = read_image_with_missing(path)
    assert not read.any()
    assert missing.all()
    with ImageWindows(path) as windows:
        assert not windows.read(slice(0, 30), slice(0, 40)).any()


@pytest.mark.parametrize("largest", [1e39, 1e300, 1e308, 1.7e308])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("intensity", ["percentile", "range"])
def test_doubles_of_any_size_keep_their_contrast(tmp_path, largest, signed, intensity):
    path = geotiff(tmp_path / "a.tif", (2 * RAMP - 1 if signed else RAMP) * largest)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_image(path, intensity)
    expected = read_image(geotiff(tmp_path / "b.tif", RAMP), intensity)
    assert np.abs(read.astype(int) - expected).max() <= 1


def test_pixels_without_data_are_ignored_unless_an_object_covers_them(tmp_path):
    values = np.full((6, 8), 7, np.uint16)
    values[0] = 0
    for name in "abcdefgh":
        geotiff(tmp_path / f"images/{name}.tif", values + np.uint16(ord(name)) * (values > 0), "0")
        save(tmp_path / f"masks/{name}.png", MASK)
    split = Folder(tmp_path, val_fraction=0.5).split("train")
    ignored = (values == 0) & (MASK == 0)
    for sample in (split[0], split.annotations(0), split.examine(0)[0]):
        assert np.array_equal(sample.ignore, ignored)
    assert [(issue.level, issue.problem[:10]) for issue in split.examine(0)[1]] == [
        ("note", "has values"),
        ("note", "has 17% of"),
    ]


def test_pixels_without_data_of_a_coco_image_are_ignored(tmp_path):
    make_coco(tmp_path, [annotation(1)], [image(1, "a.tif")], size=(6, 8))
    values = np.full((6, 8), 7, np.uint8)
    values[1, :5] = 0
    geotiff(tmp_path / "train/a.tif", values, "0")
    split = Coco(tmp_path).split("train")
    expected = np.zeros((6, 8), bool)
    expected[1, [0, 4]] = True  # columns 1 to 3 belong to the object
    for sample in (split[0], split.annotations(0), split.examine(0)[0]):
        assert np.array_equal(sample.ignore, expected)


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, -9999), (np.int16, -32768), (np.uint16, 65535)])
def test_a_value_far_from_all_others_is_warned_of_where_no_tag_names_it(messages, tmp_path, dtype, value):
    pairs = tmp_path / "pairs"
    geotiff(pairs / "images" / "a.tif", with_gap(dtype, value))
    save(pairs / "masks" / "a.png", np.pad(MASK, [(0, 24), (0, 32)]))
    make_coco(tmp_path, [annotation(1)], [image(1, "a.tif", 40, 30)], missing=["a.tif"])
    geotiff(tmp_path / "train" / "a.tif", with_gap(dtype, value))
    for split in (Folder(pairs, val_fraction=1).split("val"), Coco(tmp_path, "train.json").split("train")):
        (issue,) = (one for one in split.examine(0)[1] if one.level == "warning")
        messages.check(f"{issue.problem}; {issue.advice}", "GDAL_NODATA")
    geotiff(tmp_path / "train" / "a.tif", with_gap(dtype, value), value)
    levels, issues, _ = split.examine(0)
    assert len(levels.image.unique()) > 200
    assert all(issue.level == "note" for issue in issues)


def test_a_dark_ground_is_not_far_from_the_others(tmp_path):
    image = np.zeros((30, 40), np.uint16)
    image[10:20, 10:30] = np.arange(200).reshape(10, 20) * 100
    geotiff(tmp_path / "images" / "a.tif", image)
    save(tmp_path / "masks" / "a.png", np.pad(MASK, [(0, 24), (0, 32)]))
    assert {one.level for one in Folder(tmp_path, val_fraction=1).split("val").examine(0)[1]} == {"note"}
