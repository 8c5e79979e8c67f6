import re
import zipfile

import numpy as np
import roifile
import shapely

from sam_ft.writers.rois import write_rois
from tests.support.instances import NAMES, SIZE, hard_masks, make_instances, mask_ious, no_masks


def filled(roi):
    """(H, W) bool: the pixels whose center lies in an odd number of the outlines, ImageJ's even-odd rule."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    outlines = roi.coordinates(multi=True)
    return np.logical_xor.reduce([shapely.contains_xy(shapely.Polygon(one), x + 0.5, y + 0.5) for one in outlines])


def test_roifile_reads_outlines_of_the_same_masks(tmp_path):
    instances = make_instances(tmp_path)
    write_rois(tmp_path / "a.zip", instances)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert (mask_ious([filled(roi) for roi in rois], hard_masks()) == 1).all()
    composite = {NAMES[i] for i, roi in enumerate(rois) if roi.composite}
    assert composite == {"hole", "parts", "diagonal"}
    for roi, mask in zip(rois, hard_masks(), strict=True):
        y, x = np.nonzero(mask)
        assert (roi.left, roi.top, roi.right, roi.bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_rois_have_the_number_the_class_and_its_color(tmp_path):
    instances = make_instances(tmp_path)
    write_rois(tmp_path / "a.zip", instances)
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois[:2]] == ["00001-nucleus", "00002-cell_ _odd__ ___b"]
    assert [tuple(roi.stroke_color) for roi in rois[:2]] == [(255, *color) for color in instances.class_colors()[:2]]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert [re.sub(r"\.roi$", "", name) for name in archive.namelist()] == [roi.name for roi in rois]
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_coordinates_above_a_short_survive(tmp_path):
    masks = np.zeros((3, 4, 65_000), bool)
    masks[0, 1:3, 32_765:32_767] = True  # the last that is a polygon of shorts
    masks[1, 1:3, 64_998:] = True
    masks[2, 2, 10:60_000] = True
    write_rois(tmp_path / "a.zip", make_instances(tmp_path, masks=masks))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.composite for roi in rois] == [False, True, True]
    boxes = [np.concatenate([points.min(0), points.max(0)]) for roi in rois for points in roi.coordinates(multi=True)]
    assert np.array_equal(boxes, [[32_765, 1, 32_767, 3], [64_998, 1, 65_000, 3], [10, 2, 60_000, 3]])


def test_an_image_without_objects_has_an_empty_zip(tmp_path):
    write_rois(tmp_path / "a.zip", make_instances(tmp_path, masks=no_masks()))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == []
