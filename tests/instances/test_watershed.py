import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import local_maxima, reconstruction

from sam_ft.instances.maps import instance_maps
from sam_ft.instances.otsu import OtsuOptions, segment_otsu
from sam_ft.instances.watershed import WatershedThresholds, segment_maps, without_small

EXACT = WatershedThresholds(smoothing=0.0, min_area=1)


def discs(*centers, side=64, radius=9):
    rows, columns = np.mgrid[:side, :side]
    ids = np.zeros((side, side), np.int32)
    for number, (row, column) in enumerate(centers, 1):
        ids[np.hypot(rows - row, columns - column) < radius] = number
    return ids


def same_objects(mine, theirs):
    return len(np.unique(np.stack([mine, theirs]).reshape(2, -1), axis=1).T) == mine.max() + 1 == theirs.max() + 1


def test_perfect_maps_give_the_objects_that_they_were_made_of():
    ids = discs((12, 12), (12, 30), (40, 40))
    assert same_objects(segment_maps(instance_maps(ids), EXACT), ids)


def test_touching_discs_are_separated_at_their_boundary():
    ids = discs((20, 20), (20, 36))
    found = segment_maps(instance_maps(ids), EXACT)
    assert found.max() == 2
    assert (found != ids).mean() < 0.01


def test_peaks_with_a_high_pass_between_them_are_one_object():
    landscape = np.array([0.2, 0.9, 0.8, 0.7, 0.75, 0.6, 0.3, 0.5, 0.0, 0.1], np.float32)
    maps = np.stack([landscape > 0.05, landscape, landscape])[:, None].astype(np.float32)
    found = {
        height: segment_maps(maps, WatershedThresholds(0.5, height, 0.0, 1))[0].tolist() for height in (0.04, 0.1, 0.3)
    }
    assert found[0.04] == [
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        3,
        0,
        4,
    ]  # 0.9, 0.75 above a pass of 0.7, 0.5 above one of 0.3, and a component
    assert found[0.1] == [1, 1, 1, 1, 1, 1, 1, 2, 0, 3]
    assert found[0.3] == [1, 1, 1, 1, 1, 1, 1, 1, 0, 2]


def test_peaks_are_the_h_maxima_of_the_landscape():
    rng = np.random.default_rng(0)
    landscape = ndimage.gaussian_filter(rng.random((80, 90)), 3).astype(np.float32)
    landscape = (landscape - landscape.min()) / np.ptp(landscape)
    maps, cross = np.stack([np.ones_like(landscape), landscape, landscape]), ndimage.generate_binary_structure(2, 1)
    for height in (0.0, 0.05, 0.2):
        ids = segment_maps(maps, WatershedThresholds(0.5, height, 0.0, 1))
        lowered = reconstruction(landscape - np.float32(height), landscape, footprint=cross)
        _, domes = ndimage.label(local_maxima(lowered, connectivity=1))
        assert ids.max() == domes > 1


@pytest.mark.parametrize("min_area", [1, 1000])
def test_small_objects_are_dropped_and_the_rest_numbered_from_one(min_area):
    ids = np.array([[0, 4, 4], [2, 0, 4]])
    assert without_small(ids, min_area).tolist() == ([[0, 2, 2], [1, 0, 2]] if min_area == 1 else [[0] * 3] * 2)


@pytest.mark.parametrize("side", [1, 5])
def test_an_image_that_is_all_foreground_is_one_object(side):
    assert (segment_maps(np.ones((3, side, side), np.float32), EXACT) == 1).all()


def test_maps_without_foreground_give_no_objects():
    assert not segment_maps(np.zeros((3, 8, 8), np.float32), EXACT).any()


@pytest.mark.parametrize("bright", [True, False])
def test_otsu_finds_discs_on_either_background(bright):
    ids = discs((14, 14), (14, 31), (45, 45))
    image = np.where((ids > 0) == bright, 200, 40).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert same_objects(segment_otsu(image, OtsuOptions(smoothing=0.0)), ids)


def test_otsu_finds_nothing_in_an_image_of_one_color():
    assert not segment_otsu(np.full((8, 8, 3), 7, np.uint8), OtsuOptions()).any()
