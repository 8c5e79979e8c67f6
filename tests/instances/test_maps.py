import numpy as np

from sam_ft.instances.maps import instance_maps


def test_the_maps_of_a_row_of_pixels():
    ids = np.array([[0, 0, 0, 0, 0, 0, 0], [0, 7, 7, 7, 7, 7, 0], [0, 0, 0, 0, 0, 0, 0]])
    foreground, center, boundary = instance_maps(ids)
    assert np.array_equal(foreground, ids > 0)
    assert center[1].tolist() == [0, 0, 0.5, 1, 0.5, 0, 0]
    assert boundary[1].tolist() == [0, 1, 1, 1, 1, 1, 0]  # each pixel is next to the background


def test_touching_objects_have_a_boundary_between_them():
    ids = np.repeat([[1, 2]], 5, axis=1).repeat(5, axis=0)
    _, center, boundary = instance_maps(ids)
    assert np.allclose(boundary[2, :5], [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert np.array_equal(boundary[:, :5], boundary[:, 5:])
    assert np.argwhere(center == 1).tolist() == [[2, 2], [2, 7]]


def test_the_center_of_a_ring_lies_on_the_ring():
    ids = np.zeros((11, 11), int)
    ids[1:10, 1:10] = 3
    ids[4:7, 4:7] = 0
    foreground, center, _ = instance_maps(ids)
    (row, column), *others = np.argwhere(center == 1)
    assert not others
    assert foreground[row, column]


def test_one_pixel_and_no_object():
    ids = np.zeros((3, 3), int)
    assert not instance_maps(ids).any()
    ids[1, 1] = 1
    assert instance_maps(ids)[:, 1, 1].tolist() == [1, 1, 1]


def test_parts_of_one_object_share_one_center():
    ids = np.zeros((5, 20), int)
    ids[1:4, 1:4] = ids[1:4, 10:19] = 1
    _, center, _ = instance_maps(ids)
    assert (center == 1).sum() == 1
