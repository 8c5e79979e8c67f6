import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from sam_ft.data.sources.coco import Coco
from sam_ft.types import dense
from sam_ft.writers.coco import merge_coco, write_coco
from tests.support.instances import CLASSES, hard_masks, make_instances, no_masks


@pytest.mark.filterwarnings("ignore:__array__")  # numpy 2 about pycocotools 2.0.11
def test_pycocotools_reads_the_same_masks_scores_and_classes(tmp_path):
    instances = make_instances(tmp_path, name="sub/a")
    write_coco(tmp_path / "a.json", instances)
    coco = COCO(tmp_path / "a.json")
    annotations = coco.loadAnns(coco.getAnnIds())
    masks = hard_masks()
    assert np.array_equal([coco.annToMask(one) for one in annotations], masks)
    assert torch.equal(torch.tensor([one["score"] for one in annotations]), instances.scores)
    assert [one["category_id"] for one in annotations] == instances.labels.tolist()
    assert [one["area"] for one in annotations] == masks.sum((1, 2)).tolist()
    assert annotations[0]["bbox"] == [0, 0, 7, 5]
    assert {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())} == CLASSES
    assert [(one["file_name"], one["width"], one["height"]) for one in coco.loadImgs(1)] == [("sub/a.png", 60, 40)]


def test_the_merged_file_reads_back_through_data_coco(tmp_path):
    images = tmp_path / "images"
    many = make_instances(images, name="sub/many")
    others = [make_instances(images, "none", no_masks()), make_instances(images, "two", hard_masks()[:2])]
    parts = [tmp_path / "coco" / f"{one.name}.json" for one in [many, *others]]
    for part, one in zip(parts, [many, *others], strict=True):
        write_coco(part, one)
    merge_coco(tmp_path / "coco.json", parts, CLASSES)
    split = Coco(root=tmp_path, val="coco.json", val_images="images").split("val")
    survey = split.survey()
    assert (split.names, split.classes) == (["many", "none", "two"], CLASSES)
    assert (survey.images, survey.objects) == (3, 12)
    for sample, one in zip(split, [many, *others], strict=True):
        assert torch.equal(sample.image, one.image)
        assert torch.equal(dense(sample.masks), dense(one.masks))
        assert torch.equal(sample.labels, one.labels)
        assert sample.ignore is None
    content = json.loads((tmp_path / "coco.json").read_text())
    assert [one["id"] for one in content["annotations"]] == list(range(1, 13))
    assert [one["score"] for one in content["annotations"]] == [*many.short_scores(), *others[1].short_scores()]


def test_no_image_and_no_object_merge_to_a_valid_file(tmp_path):
    merge_coco(tmp_path / "coco.json", [], CLASSES)
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []
    write_coco(tmp_path / "part.json", make_instances(tmp_path, masks=no_masks()))
    merge_coco(tmp_path / "coco.json", [tmp_path / "part.json"], CLASSES)
    coco = COCO(tmp_path / "coco.json")
    assert (len(coco.imgs), len(coco.anns), len(coco.cats)) == (1, 0, 2)
