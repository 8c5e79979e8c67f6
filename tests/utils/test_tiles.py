import numpy as np
import pytest

from sam_ft.utils.tiles import TileGrid, auto_tile, blend_tiles, edge_weights

SIZES = [(1, 1), (5, 64), (64, 64), (65, 64), (129, 100), (300, 7), (113, 97)]


def spans(slices):
    return [(one.start, one.stop) for one in slices]


def test_the_last_tile_is_moved_inward_and_keeps_its_side():
    grid = TileGrid((100, 65), 64, 0.25)
    assert spans(grid.rows) == [(0, 64), (36, 100)]
    assert spans(grid.columns) == [(0, 64), (1, 65)]  # a rest of one pixel
    assert spans(TileGrid((160, 30), 64, 0.25).rows) == [(0, 64), (48, 112), (96, 160)]
    assert spans(TileGrid((160, 30), 64, 0.25).columns) == [(0, 30)]  # narrower than a tile


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.1, 0.5])
def test_every_pixel_is_covered_and_neighbors_overlap(size, overlap):
    grid = TileGrid(size, 32, overlap)
    covered = np.zeros(size, int)
    for rows, columns in grid:
        covered[rows, columns] += 1
        assert covered[rows, columns].shape == (min(32, size[0]), min(32, size[1]))
    assert covered.min() == 1
    assert len(grid) == len(list(grid))
    for first, second in zip(grid.rows, grid.rows[1:], strict=False):
        assert first.stop - second.start >= round(32 * overlap)


def test_an_impossible_grid_is_refused():
    with pytest.raises(ValueError, match="overlap=0"):
        TileGrid((9, 9), 4, 0.6)
    with pytest.raises(ValueError, match="tile=0"):
        TileGrid((9, 9), 0)


def test_weights_rise_from_the_edge_and_sum_to_one_where_tiles_overlap():
    assert edge_weights(8, 4).tolist() == [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125]
    assert np.allclose(edge_weights(16, 4)[-4:] + edge_weights(16, 4)[:4], 1)
    assert edge_weights(5, 0).tolist() == [1, 1, 1, 1, 1]
    assert edge_weights(3, 10).min() > 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
def test_tiles_of_one_picture_are_blended_to_that_picture(size, overlap):
    picture = np.random.default_rng(0).random((3, *size), np.float32)
    grid = TileGrid(size, 32, overlap)
    bands = list(blend_tiles(grid, lambda tiles: (picture[:, rows, columns] for rows, columns in tiles)))
    assert all(band.shape[1] <= 32 for band in bands)
    assert np.allclose(np.concatenate(bands, axis=1), picture, atol=1e-6)


def test_the_middle_of_an_overlap_is_the_mean_and_its_ends_are_nearly_one_tile_s():
    grid = TileGrid((4, 28), 16, 0.25)  # columns 0 to 16 and 12 to 28
    maps = {0: 0.0, 12: 1.0}
    (band,) = blend_tiles(grid, lambda tiles: (np.full((1, 4, 16), maps[c.start], np.float32) for _, c in tiles))
    assert np.allclose(band[0, 2, 10:18], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])


def test_the_best_tile_shows_the_whole_box_and_not_at_its_edge():
    grid = TileGrid((100, 100), 40, 0.25)  # starts at 0, 30, 60 in both axes
    boxes = np.array([[0, 0, 5, 5], [33, 2, 39, 8], [31, 31, 34, 34], [25, 25, 75, 75], [95, 50, 100, 55]])
    assert grid.best_tiles(boxes).tolist() == [0, 1, 0, 4, 5]
    assert grid.best_tiles(np.zeros((0, 4))).tolist() == []


def test_small_objects_have_twelve_pixels_at_the_input():
    short = [30] * 9 + [300] * 90
    tile = auto_tile(short, [4000, 2000], 1024)
    assert tile > 2560  # the percentile lies between 30 and 300
    assert auto_tile([30] * 20 + [300] * 80, [4000], 1024) == 30 * 1024 // 12 == 2560
    assert 30 * 1024 / auto_tile([30], [4000], 1024) >= 12


def test_whole_images_are_fine_where_objects_are_large_and_magnifying_has_an_end():
    assert auto_tile([200], [600, 900], 1024) == 900  # no image of these is cut
    assert auto_tile([1], [4000], 256) == 128
    assert auto_tile([], [700], 256) == 700
