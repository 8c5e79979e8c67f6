import numpy as np
import pytest
from scipy import ndimage

from sam_ft.instances.bands import segment_bands
from sam_ft.instances.maps import instance_maps
from sam_ft.instances.watershed import WatershedThresholds, segment_maps

EXACT = WatershedThresholds(smoothing=0.0, min_area=1)


def in_bands(maps, thresholds, halo, block, rows=13):
    bands = (maps[:, start : start + rows] for start in range(0, maps.shape[1], rows))
    return sorted(segment_bands(bands, maps.shape[1:], thresholds, halo, block), key=lambda one: one.order)


def painted(objects, size):
    ids = np.zeros(size, np.int32)
    for number, one in enumerate(objects, 1):
        place = ids[one.y0 : one.y0 + one.mask.shape[0], one.x0 : one.x0 + one.mask.shape[1]]
        assert not place[one.mask].any()
        place[one.mask] = number
    return ids


def touching_cells(size, count, seed=0):
    """Maps as a head predicts them: of cells that fill most of the image, with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    centers = rng.random((count, 2)) * size
    distance = np.hypot(rows - centers[:, :1, None], columns - centers[:, 1:, None])
    ids = np.where(distance.min(axis=0) < 0.8 * np.sqrt(size[0] * size[1] / count), distance.argmin(axis=0) + 1, 0)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, (3, *size)), (0, 2, 2))
    return np.clip(instance_maps(ids) + 0.15 * noise / noise.std(), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("block", "halo"), [(32, 40), (50, 45), (64, 64), (500, 40)])
@pytest.mark.parametrize("smoothing", [0.0, 1.3])
def test_blocks_find_the_objects_of_the_whole_image(block, halo, smoothing):
    maps = touching_cells((150, 181), 60)
    thresholds = WatershedThresholds(smoothing=smoothing, min_area=12)
    whole = segment_maps(maps, thresholds)
    assert whole.max() > 40
    assert (whole > 0).mean() > 0.5
    objects = in_bands(maps, thresholds, halo, block)
    assert np.array_equal(painted(objects, whole.shape), whole)
    means = ndimage.mean(maps[0].astype(np.float64), whole, np.arange(1, whole.max() + 1))
    assert np.allclose([one.foreground for one in objects], means)


def test_an_object_across_four_blocks_comes_back_as_one():
    ids = np.zeros((64, 64), int)
    ids[20:44, 22:45] = 5
    objects = in_bands(instance_maps(ids), EXACT, halo=24, block=32)
    assert len(objects) == 1
    assert np.array_equal(painted(objects, ids.shape) > 0, ids > 0)


def test_a_halo_that_is_too_small_loses_pixels_but_finds_no_object_twice():
    ids = np.zeros((128, 40), int)
    ids[4:124, 5:35] = 1
    maps = instance_maps(ids)
    assert len(in_bands(maps, EXACT, halo=2, block=16)) == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (90, 3), (33, 65)])
def test_images_smaller_than_a_block_and_rests_of_one_pixel(size):
    maps = touching_cells(size, 4)
    whole = segment_maps(maps, EXACT)
    assert np.array_equal(painted(in_bands(maps, EXACT, 40, 32), size), whole)


def test_no_foreground_gives_no_objects():
    assert in_bands(np.zeros((3, 70, 40), np.float32), EXACT, 8, 16) == []
