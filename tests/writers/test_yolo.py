import cv2
import numpy as np
import pytest
import supervision
import yaml

from sam_ft.writers.yolo import write_data_yaml, write_yolo
from tests.support.instances import (
    CLASSES,
    NAMES,
    SIZE,
    WITHOUT_HOLES_AND_PARTS,
    hard_masks,
    make_instances,
    mask_ious,
    no_masks,
)


def largest_parts_without_holes():
    masks = hard_masks()
    masks[NAMES.index("hole"), 5:15, 10:22] = True
    masks[NAMES.index("parts"), 12:14] = False
    return masks


def written(folder, **options):
    instances = make_instances(folder / "images", **options)
    write_yolo(folder / "labels/a.txt", instances)
    write_data_yaml(folder / "data.yaml", [], CLASSES)
    return instances


def test_supervision_reads_the_largest_part_of_each_object(tmp_path):
    instances = written(tmp_path)
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "images"), str(tmp_path / "labels"), str(tmp_path / "data.yaml"), force_masks=True
    )
    ((_, _, found),) = list(read)
    assert read.classes == [CLASSES[2], CLASSES[5]]
    assert found.class_id.tolist() == instances.class_places
    assert (mask_ious(found.mask, largest_parts_without_holes()) == 1).all()
    assert (mask_ious(found.mask, hard_masks())[WITHOUT_HOLES_AND_PARTS] == 1).all()


@pytest.mark.parametrize("convert", [np.round, np.trunc])
def test_readers_that_round_and_readers_that_truncate_find_the_pixels(tmp_path, convert):
    written(tmp_path)
    filled = []
    for line in (tmp_path / "labels/a.txt").read_text().splitlines():
        points = np.array(line.split()[1:], np.float32).reshape(-1, 2)
        assert len(points) >= 3
        assert ((points >= 0) & (points < 1)).all()
        mask = np.zeros(SIZE, np.uint8)
        cv2.fillPoly(mask, [convert(points * np.float32([SIZE[1], SIZE[0]])).astype(np.int32)], 1)
        filled.append(mask > 0)
    assert (mask_ious(filled, largest_parts_without_holes()) == 1).all()


def test_an_image_without_objects_has_an_empty_file(tmp_path):
    written(tmp_path, masks=no_masks())
    assert (tmp_path / "labels/a.txt").read_bytes() == b""


def test_data_yaml_names_the_classes(tmp_path):
    written(tmp_path)
    content = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert content["names"] == {0: CLASSES[2], 1: CLASSES[5]}
    assert (content["nc"], content["train"], content["val"]) == (2, "images", "images")
