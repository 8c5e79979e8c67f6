"""Every format that predict.py writes, read by other programs: the masks of `Predictor.segment`, object by object."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools.coco import COCO

from sam_ft import Predictor
from tests.support.blobs import draw
from tests.support.cli import call_once
from tests.support.files import ORIENTATION
from tests.support.heads import write_head_run
from tests.support.instances import mask_ious

pytestmark = pytest.mark.slow

FORMATS = "labels,labels_uint32,coco,overlay,table,geojson,yolo,labelme,rois"


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """images/: gray PNG, 16-bit TIFF, JPEG turned by EXIF · run/ with a head · out/ with all formats."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "images").mkdir()
    pixels = [draw(seed, count)[0] for seed, count in ((50, 3), (51, 4), (54, 5))]
    Image.fromarray(pixels[0]).save(folder / "images/a.png")
    tifffile.imwrite(folder / "images/b.tif", pixels[1].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels[2]).save(folder / "images/c.jpg", quality=95, exif=exif)
    write_head_run(run, folder / "run")
    where = [f"run={folder / 'run'}", f"images={folder / 'images'}", f"output={folder / 'out'}"]
    call_once("predict.py", *where, f"save=[{FORMATS}]")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """{file: masks (N, H, W) and scores (N,)}"""
    predictor = Predictor.from_run(folder / "run", device="cpu")
    found = {path.name: predictor.segment(path)[:2] for path in sorted((folder / "images").iterdir())}
    assert min(len(masks) for masks, _ in found.values()) >= 2
    return found


def same(read, masks):
    return (mask_ious(read, masks) == 1).all()


def fill(polygon, size):
    """(H, W) bool: the pixels whose center lies inside."""
    shapely = pytest.importorskip("shapely")
    y, x = np.mgrid[: size[0], : size[1]]
    return shapely.contains_xy(polygon, x + 0.5, y + 0.5)


@pytest.mark.parametrize("kind", ["labels", "labels_uint32"])
def test_tifffile_and_pillow_read_the_labels(folder, found, kind):
    for file, (masks, _) in found.items():
        path = folder / f"out/{kind}/{file[0]}.tif"
        with Image.open(path) as picture:
            for ids in (tifffile.imread(path), np.array(picture)):
                assert ids.max() == len(masks)
                assert same([ids == number for number in range(1, len(masks) + 1)], masks)


@pytest.mark.filterwarnings("ignore:__array__")  # numpy 2 about pycocotools 2.0.11
def test_pycocotools_reads_the_masks_and_scores_of_all_images(folder, found):
    coco = COCO(folder / "out/coco.json")
    assert [one["file_name"] for one in coco.loadImgs(coco.getImgIds())] == list(found)
    for image, (masks, scores) in zip(coco.getImgIds(), found.values(), strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(image))
        assert same([coco.annToMask(one) for one in annotations], masks)
        assert np.array_equal(np.array([one["score"] for one in annotations], np.float32), scores)


def test_shapely_fills_the_outlines_of_geojson(folder, found):
    shapely = pytest.importorskip("shapely.geometry")
    for file, (masks, _) in found.items():
        features = json.loads((folder / f"out/geojson/{file[0]}.geojson").read_text())["features"]
        shapes = [shapely.shape(feature["geometry"]) for feature in features]
        assert same([fill(one, masks.shape[1:]) for one in shapes], masks)


def test_supervision_reads_the_yolo_folder(folder, found):
    supervision = pytest.importorskip("supervision")
    # As data.yaml says: the images in a folder beside labels/.
    shutil.copytree(folder / "images", folder / "out/yolo/images")
    places = [str(folder / "out/yolo" / name) for name in ("images", "labels", "data.yaml")]
    read = supervision.DetectionDataset.from_yolo(*places, force_masks=True)
    assert len(read) == 3
    for path, _, objects in read:
        assert mask_ious(objects.mask, found[Path(path).name][0]).mean() >= 0.99


def test_roifile_reads_the_outlines_of_rois(folder, found):
    roifile = pytest.importorskip("roifile")
    shapely = pytest.importorskip("shapely")
    for file, (masks, _) in found.items():
        rois = roifile.roiread(folder / f"out/rois/{file[0]}.zip")
        outlines = [[shapely.Polygon(one) for one in roi.coordinates(multi=True)] for roi in rois]
        # ImageJ's even-odd rule
        read = [np.logical_xor.reduce([fill(one, masks.shape[1:]) for one in some]) for some in outlines]
        assert same(read, masks)


def test_the_table_has_the_areas_and_scores_of_all_images(folder, found):
    with open(folder / "out/table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name, (masks, scores) in found.items():
        own = [row for row in rows if row["file"] == name]
        assert [int(row["label"]) for row in own] == list(range(1, len(masks) + 1))
        assert [float(row["area"]) for row in own] == masks.sum((1, 2)).tolist()
        assert np.array_equal(np.array([row["score"] for row in own], np.float32), scores)


def test_pillow_reads_overlays_of_the_upright_images(folder, found):
    for file, (masks, _) in found.items():
        with Image.open(folder / f"out/overlay/{file[0]}.png") as picture:
            assert (picture.height, picture.width) == masks.shape[1:]
