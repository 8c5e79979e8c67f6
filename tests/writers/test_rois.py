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
    assert [roi.name for roi in rois[:2]] == ["00001-nucleus", "00002-cell_ _odd__ __b"]
    assert [tuple(roi.stroke_color) for roi in rois[:2]] == [(255, *color) for color in instances.class_colors()[:2]]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert [re.sub(r"\.roi$", "", name) for name in archive.namelist()] == [roi.name for roi in rois]
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_large_coordinates_survive(tmp_path):
    masks = np.zeros((3, 4, 65_000), bool)
    masks[0, 1:3, 40_000:40_002] = True
    masks[1, 2, 10:60_000] = True  # wider than a short
    masks[2, ::2, 60_000:60_002] = True
    write_rois(tmp_path / "a.zip", make_instances(tmp_path, masks=masks))
    first, wide, parts = roifile.roiread(tmp_path / "a.zip")
    assert first.coordinates().tolist() == [[40_000, 1], [40_002, 1], [40_002, 3], [40_000, 3]]
    assert wide.coordinates(multi=True)[0][:, 0].max() == 60_000
    assert len(parts.coordinates(multi=True)) == 2


def test_an_image_without_objects_has_an_empty_zip(tmp_path):
    write_rois(tmp_path / "a.zip", make_instances(tmp_path, masks=no_masks()))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == []
