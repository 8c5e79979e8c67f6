import json

import numpy as np
import shapely
from shapely.geometry import shape

from sam_ft.writers.geojson import write_geojson
from tests.support.instances import CLASSES, NAMES, SIZE, hard_masks, make_instances, mask_ious, no_masks


def read(path):
    content = json.loads(path.read_text())
    assert content["type"] == "FeatureCollection"
    return content["features"]


def test_shapely_fills_the_outlines_with_the_same_masks(tmp_path):
    write_geojson(tmp_path / "a.geojson", make_instances(tmp_path))
    shapes = [shape(feature["geometry"]) for feature in read(tmp_path / "a.geojson")]
    assert all(one.is_valid for one in shapes)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    filled = [shapely.contains_xy(one, x + 0.5, y + 0.5) for one in shapes]
    assert (mask_ious(filled, hard_masks()) == 1).all()
    assert {NAMES[i] for i, one in enumerate(shapes) if one.geom_type == "MultiPolygon"} == {"parts", "diagonal"}
    # the second hole touches the first at a corner
    assert len(shapes[NAMES.index("hole")].interiors) == 2


def test_features_have_what_qupath_reads(tmp_path):
    instances = make_instances(tmp_path)
    write_geojson(tmp_path / "a.geojson", instances)
    properties = [feature["properties"] for feature in read(tmp_path / "a.geojson")]
    assert {one["objectType"] for one in properties} == {"detection"}
    assert [one["classification"]["name"] for one in properties[:2]] == list(CLASSES.values())
    colors = [one["classification"]["color"] for one in properties]
    assert all(type(value) is int and 0 <= value <= 255 for color in colors for value in color)
    assert colors[0] == colors[2] != colors[1]
    assert [one["measurements"]["score"] for one in properties] == instances.short_scores()


def test_an_image_without_objects_has_no_features(tmp_path):
    write_geojson(tmp_path / "a.geojson", make_instances(tmp_path, masks=no_masks()))
    assert read(tmp_path / "a.geojson") == []
