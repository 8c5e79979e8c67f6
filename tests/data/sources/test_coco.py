import json
import logging
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.names import unique_names
from sam_ft.types import dense

SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]  # columns and rows 1 to 3 of an 8 x 6 image: 9 pixels
MASK = np.zeros((6, 8), bool)
MASK[1:4, 1:4] = True
# down the columns: 6 pixels of column 0 and 1 above the square; 3 in, 3 out, 3 in, 3 out, 3 in, then 2 + 4 * 6
COUNTS = [7, 3, 3, 3, 3, 3, 26]
CATEGORIES = [{"id": 3, "name": "person"}, {"id": 17, "name": "dog"}, {"id": 90, "name": "tree"}]


def image(key, name=None, width=8, height=6):
    return {"id": key, "file_name": name or f"{key:03}.png", "width": width, "height": height}


def annotation(key, image=1, category=3, segmentation=None, **more):
    return {
        "id": key,
        "image_id": image,
        "category_id": category,
        "segmentation": [SQUARE] if segmentation is None else segmentation,
        **more,
    }


def moved(x, y):
    """The square with its corner at (1 + x, 1 + y)."""
    return [[value + (y if place % 2 else x) for place, value in enumerate(SQUARE)]]


def make(root, annotations, images=None, missing=(), categories=CATEGORIES, size=(6, 8)):
    """Writes the training split, gray images of one value each, and returns its data set."""
    images = [image(1)] if images is None else images
    for number, entry in enumerate(images):
        name = entry.get("file_name")
        if isinstance(name, str) and name not in missing and name.isascii():
            (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full(size, number + 10, np.uint8)).save(root / "train" / name)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    return root


def split(root, **options):
    return Coco(root, **options).split("train")


def test_a_polygon_is_drawn_and_carries_its_category(tmp_path):
    make(tmp_path, [annotation(5, category=17)], categories=[{"id": 17, "name": "dog"}])
    found = split(tmp_path)
    sample = found[0]
    assert torch.equal(dense(sample.masks), torch.from_numpy(MASK)[None])
    assert sample.labels.tolist() == [17]
    assert sample.object_index.tolist() == [0]
    assert sample.image.shape == (3, 6, 8)
    assert sample.image.unique().tolist() == [10]
    assert sample.name == found.names[0] == "001"
    assert sample.size == (6, 8)
    assert sample.ignore is None
    assert found.classes == {17: "dog"}


def test_annotations_are_the_same_without_pixels(tmp_path):
    make(tmp_path, [annotation(1), annotation(2, segmentation=moved(3, 1), iscrowd=1)])
    whole, bare = split(tmp_path)[0], split(tmp_path).annotations(0)
    assert bare.image.shape == (3, 0, 0)
    assert torch.equal(dense(bare.masks), dense(whole.masks))
    assert torch.equal(bare.ignore, whole.ignore)
    assert bare.size == whole.size


def test_all_three_kinds_of_segmentation_give_the_same_mask(tmp_path):
    spelled = rle.encode(np.asfortranarray(MASK.astype(np.uint8)))["counts"].decode()
    kinds = [[SQUARE], {"size": [6, 8], "counts": COUNTS}, {"size": [6, 8], "counts": spelled}]
    make(tmp_path, [annotation(key, 1, CATEGORIES[key]["id"], kind) for key, kind in enumerate(kinds)])
    masks = dense(split(tmp_path)[0].masks)
    assert torch.equal(masks, torch.from_numpy(np.stack([MASK] * 3)))


def test_the_parts_of_an_annotation_are_one_object(tmp_path):
    make(tmp_path, [annotation(1, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2], [6, 4, 8, 4, 8, 6, 6, 6]])])
    masks = dense(split(tmp_path)[0].masks)
    assert masks.shape == (1, 6, 8)
    assert masks[0, :2, :2].all()
    assert masks[0, 4:, 6:].all()
    assert masks.sum() == 8


def test_objects_may_overlap_and_keep_the_order_of_the_file(tmp_path):
    images = [image(30), image(10)]
    entries = [annotation(1, 10), annotation(2, 30), annotation(3, 10, 90, moved(1, 0)), annotation(4, 10, 17)]
    found = split(make(tmp_path, entries, images))
    assert found.names == ["030", "010"]
    assert [len(found[i].masks) for i in range(2)] == [1, 3]
    sample = found[1]
    assert sample.image.unique().tolist() == [11]
    assert sample.labels.tolist() == [3, 90, 17]
    assert sample.object_index.tolist() == [0, 1, 2]
    assert (dense(sample.masks)[0] & dense(sample.masks)[1]).sum() == 6


def test_many_annotations_of_mixed_images_keep_their_order(tmp_path):
    rectangles = [[[0, 0, 1 + key // 6, 0, 1 + key // 6, 6, 0, 6]] for key in range(300)]  # another one for each class
    entries = [annotation(key, 1 + key % 2, CATEGORIES[key % 3]["id"], rectangles[key]) for key in range(300)]
    found = split(make(tmp_path, entries, [image(1, width=60), image(2, width=60)], size=(6, 60)))
    assert found[0].labels.tolist() == [3, 90, 17] * 50  # the annotations 0, 2, 4, ...
    assert found[1].labels.tolist() == [17, 3, 90] * 50


def test_an_image_without_annotations_has_no_objects(tmp_path):
    found = split(make(tmp_path, [annotation(1, 2)], [image(1), image(2), image(3)]))
    for index in (0, 2):
        sample = found[index]
        assert dense(sample.masks).shape == (0, 6, 8)
        assert dense(sample.masks).dtype == torch.bool
        assert sample.labels.shape == sample.object_index.shape == (0,)
        assert sample.labels.dtype == torch.int64
    survey = found.survey()
    assert (survey.images, survey.objects, survey.empty) == (3, 1, ["001", "003"])


def test_a_crowd_is_ignored_but_for_the_pixels_of_objects(tmp_path):
    crowd = {"size": [6, 8], "counts": [0, 24, 24]}  # columns 0 to 3
    make(tmp_path, [annotation(1, segmentation=crowd, iscrowd=1), annotation(2, iscrowd=0)])
    found = split(tmp_path)
    sample = found[0]
    assert len(sample.masks) == found.survey().objects == 1
    assert sample.ignore.sum() == 24 - 9
    assert sample.ignore[:, :4].sum() == 15
    assert not (sample.ignore & dense(sample.masks).any(0)).any()


def test_a_crowd_that_objects_cover_leaves_nothing_to_ignore(tmp_path):
    make(tmp_path, [annotation(1, iscrowd=1), annotation(2)])
    assert split(tmp_path)[0].ignore is None


def test_small_objects_are_ignored_by_the_pixels_of_their_mask(tmp_path):
    small = annotation(1, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]], area=1000)  # 4 pixels, one of them of the square
    make(tmp_path, [small, annotation(2, area=1)])
    sample = split(tmp_path, min_area=9)[0]
    assert torch.equal(dense(sample.masks), torch.from_numpy(MASK)[None])
    assert sample.ignore.nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert len(split(tmp_path, min_area=4)[0].masks) == 2
    assert split(tmp_path, min_area=10).survey().objects == 0


def test_other_categories_are_background(messages, tmp_path):
    make(tmp_path, [annotation(1, category=3), annotation(2, category=90), annotation(3, category=17, iscrowd=1)])
    found = split(tmp_path, categories=["tree", "person"])
    assert found.classes == {3: "person", 90: "tree"}
    assert found[0].labels.tolist() == [3, 90]
    assert found[0].object_index.tolist() == [0, 1]
    assert found[0].ignore is None
    messages.refusal(lambda: split(tmp_path, categories=["person", "cat"]), "train.json: ", " cat", "person, dog, tree")


def test_names_are_stems_or_paths_where_stems_repeat(tmp_path):
    assert unique_names(["a/1.jpg", "b/1.jpg", "b/2.jpg"]) == ["a/1", "b/1", "2"]
    assert unique_names(["1.jpg", "1.png", "1.jpg.png"]) == ["1.jpg", "1.png", "1.jpg.png"]
    found = split(make(tmp_path, [], [image(1, "a/x.png"), image(2, "b/x.png")]))
    assert found.names == ["a/x", "b/x"]
    assert found[1].image.unique().tolist() == [11]


def test_what_reaches_over_the_edge_is_clipped(tmp_path):
    make(tmp_path, [annotation(1, segmentation=[[-500, -500, 2, -500, 2, 900, -500, 900]])])
    assert torch.equal(dense(split(tmp_path)[0].masks)[0], torch.arange(8).expand(6, 8) < 2)


def test_an_annotation_thinner_than_a_pixel_is_no_object_and_no_error(messages, tmp_path, caplog):
    make(tmp_path, [annotation(1, segmentation=[[2, 2, 2.1, 2, 2.1, 2.1]]), annotation(2)])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path)
    messages.logged(caplog, "1 annotation", ": 1")
    assert len(found[0].masks) == found.survey().objects == 1


def test_a_split_travels_to_workers_whole(tmp_path):
    found = split(make(tmp_path, [annotation(1)]))
    assert torch.equal(*(dense(one[0].masks) for one in (pickle.loads(pickle.dumps(found)), found)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11, numpy 2
@pytest.mark.skipif("SAM_FT_DATA" not in os.environ, reason="set SAM_FT_DATA to a folder that holds coco_mini/")
@pytest.mark.parametrize("which", ["train", "val"])
def test_real_annotations_agree_with_pycocotools(which):
    from pycocotools.coco import COCO

    root = f"{os.environ['SAM_FT_DATA']}/coco_mini"
    found = Coco(root).split(which)
    reference = COCO(f"{root}/{which}.json")
    by_file = {entry["file_name"]: entry["id"] for entry in reference.dataset["images"]}
    for index, file in enumerate(found.content.files):
        entries = reference.imgToAnns[by_file[file]]
        objects = [entry for entry in entries if not entry["iscrowd"]]
        sample = found[index]
        assert sample.labels.tolist() == [entry["category_id"] for entry in objects]
        for mask, entry in zip(dense(sample.masks), objects, strict=True):
            assert (mask.numpy() == reference.annToMask(entry)).all()
        for entry in entries:
            if entry["iscrowd"]:
                free = (reference.annToMask(entry) > 0) & ~dense(sample.masks).any(0).numpy()
                assert sample.ignore[torch.from_numpy(free)].all()
    assert found.survey().objects == {"train": 164, "val": 251}[which]
