import numpy as np
import shapely
from scipy import ndimage

from sam_ft.writers.outlines import trace_outlines
from tests.support.instances import hard_masks
from tests.support.masks import rows


def traced(*lines):
    return trace_outlines(rows(*lines)[0].numpy())


def test_a_pixel_has_its_four_corners():
    assert traced("...", "..#") == [[[(2, 1), (3, 1), (3, 2), (2, 2)]]]


def test_only_corners_are_points():
    assert traced("###", "#..") == [[[(0, 0), (3, 0), (3, 1), (1, 1), (1, 2), (0, 2)]]]


def test_a_hole_turns_the_other_way():
    outer = [(0, 0), (3, 0), (3, 3), (0, 3)]
    assert traced("###", "#.#", "###") == [[outer, [(1, 2), (2, 2), (2, 1), (1, 1)]]]


def test_pixels_that_touch_at_a_corner_are_two_parts():
    assert traced("#.", ".#") == [[[(0, 0), (1, 0), (1, 1), (0, 1)]], [[(1, 1), (2, 1), (2, 2), (1, 2)]]]


def test_a_hole_that_touches_the_outside_is_a_ring_of_its_own():
    ((outer, hole),) = traced(".##", "#.#", "###")
    assert (1, 1) in outer
    assert (1, 1) in hole
    assert len(set(outer)) == len(outer) == 6


def test_no_object_has_no_outline():
    assert trace_outlines(np.zeros((3, 4), bool)) == []


def test_outlines_of_any_mask_are_valid_polygons_that_hold_its_pixels():
    rng = np.random.default_rng(0)
    ragged = [rng.random(rng.integers(1, 12, 2)) < share for share in (0.2, 0.5, 0.7, 0.9) for _ in range(100)]
    for mask in [*hard_masks(), *ragged]:
        parts = trace_outlines(mask)
        polygons = shapely.MultiPolygon([shapely.Polygon(outer, holes) for outer, *holes in parts])
        assert polygons.is_valid, mask
        y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
        assert np.array_equal(shapely.contains_xy(polygons, x + 0.5, y + 0.5), mask)
        assert polygons.area == mask.sum()
        assert len(parts) == ndimage.label(mask)[1]
        for outer, *holes in parts:  # RFC 7946
            assert shapely.LinearRing(outer).is_ccw
            assert not any(shapely.LinearRing(hole).is_ccw for hole in holes)
