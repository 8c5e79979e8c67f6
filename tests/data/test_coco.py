import json
import logging
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from sam_ft.data.coco import Coco, unique_names
from sam_ft.errors import ConfigError, DataError

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
    """Writes the training split, grey images of one value each, and returns its data set."""
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


def refusal(act):
    with pytest.raises((DataError, ConfigError)) as caught:
        act()
    return str(caught.value)


def test_a_polygon_is_drawn_and_carries_its_category(tmp_path):
    make(tmp_path, [annotation(5, category=17)], categories=[{"id": 17, "name": "dog"}])
    found = split(tmp_path)
    sample = found[0]
    assert torch.equal(sample.masks, torch.from_numpy(MASK)[None])
    assert sample.labels.tolist() == [17]
    assert sample.object_ids.tolist() == [0]
    assert sample.image.shape == (3, 6, 8)
    assert sample.image.unique().tolist() == [10]
    assert sample.name == found.names[0] == "001"
    assert sample.original_size == (6, 8)
    assert sample.ignore is None
    assert found.classes == {17: "dog"}


def test_annotations_are_the_same_without_pixels(tmp_path):
    make(tmp_path, [annotation(1), annotation(2, segmentation=moved(3, 1), iscrowd=1)])
    whole, bare = split(tmp_path)[0], split(tmp_path).annotations(0)
    assert bare.image.shape == (3, 0, 0)
    assert torch.equal(bare.masks, whole.masks)
    assert torch.equal(bare.ignore, whole.ignore)
    assert bare.original_size == whole.original_size


def test_all_three_kinds_of_segmentation_give_the_same_mask(tmp_path):
    spelled = rle.encode(np.asfortranarray(MASK.astype(np.uint8)))["counts"].decode()
    kinds = [[SQUARE], {"size": [6, 8], "counts": COUNTS}, {"size": [6, 8], "counts": spelled}]
    make(tmp_path, [annotation(key, segmentation=kind) for key, kind in enumerate(kinds)])
    masks = split(tmp_path)[0].masks
    assert torch.equal(masks, torch.from_numpy(np.stack([MASK] * 3)))


def test_the_parts_of_an_annotation_are_one_object(tmp_path):
    make(tmp_path, [annotation(1, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2], [6, 4, 8, 4, 8, 6, 6, 6]])])
    masks = split(tmp_path)[0].masks
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
    assert sample.object_ids.tolist() == [0, 1, 2]
    assert (sample.masks[0] & sample.masks[1]).sum() == 6


def test_many_annotations_of_mixed_images_keep_their_order(tmp_path):
    entries = [annotation(key, 1 + key % 2, CATEGORIES[key % 3]["id"]) for key in range(300)]
    found = split(make(tmp_path, entries, [image(1), image(2)]))
    assert found[0].labels.tolist() == [3, 90, 17] * 50  # the annotations 0, 2, 4, ...
    assert found[1].labels.tolist() == [17, 3, 90] * 50


def test_an_image_without_annotations_has_no_objects(tmp_path):
    found = split(make(tmp_path, [annotation(1, 2)], [image(1), image(2), image(3)]))
    for index in (0, 2):
        sample = found[index]
        assert sample.masks.shape == (0, 6, 8)
        assert sample.masks.dtype == torch.bool
        assert sample.labels.shape == sample.object_ids.shape == (0,)
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
    assert not (sample.ignore & sample.masks.any(0)).any()


def test_a_crowd_that_objects_cover_leaves_nothing_to_ignore(tmp_path):
    make(tmp_path, [annotation(1, iscrowd=1), annotation(2)])
    assert split(tmp_path)[0].ignore is None


def test_small_objects_are_ignored_by_the_pixels_of_their_mask(tmp_path):
    small = annotation(1, segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]], area=1000)  # 4 pixels, one of them of the square
    make(tmp_path, [small, annotation(2, area=1)])
    sample = split(tmp_path, min_area=9)[0]
    assert torch.equal(sample.masks, torch.from_numpy(MASK)[None])
    assert sample.ignore.nonzero().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert len(split(tmp_path, min_area=4)[0].masks) == 2
    assert split(tmp_path, min_area=10).survey().objects == 0


def test_other_categories_are_background(tmp_path):
    make(tmp_path, [annotation(1, category=3), annotation(2, category=90), annotation(3, category=17, iscrowd=1)])
    found = split(tmp_path, categories=["tree", "person"])
    assert found.classes == {3: "person", 90: "tree"}
    assert found[0].labels.tolist() == [3, 90]
    assert found[0].object_ids.tolist() == [0, 1]
    assert found[0].ignore is None
    message = refusal(lambda: split(tmp_path, categories=["person", "cat"]))
    assert "train.json: has no category cat" in message
    assert "it has person, dog, tree" in message


@pytest.mark.parametrize("options", [{"categories": "dog"}, {"categories": []}, {"on_bad": "drop"}])
def test_settings_that_are_not_known_are_refused(tmp_path, options):
    assert "expected" in refusal(lambda: Coco(tmp_path, **options))


def test_names_are_stems_or_paths_where_stems_repeat(tmp_path):
    assert unique_names(["a/1.jpg", "b/1.jpg", "b/2.jpg"]) == ["a/1", "b/1", "2"]
    assert unique_names(["1.jpg", "1.png", "1.jpg.png"]) == ["1.jpg", "1.png", "1.jpg.png"]
    found = split(make(tmp_path, [], [image(1, "a/x.png"), image(2, "b/x.png")]))
    assert found.names == ["a/x", "b/x"]
    assert found[1].image.unique().tolist() == [11]


def test_all_faults_are_listed_in_one_error(tmp_path):
    images = [
        image(1),
        image(2, "gone.png"),
        image(3),
        image(3, "003b.png"),
        image(4, "twice.png"),
        image(5, "twice.png"),
        {"id": 6, "file_name": "006.png"},
        image(7, "\ud800.png"),
        image(8, "narrow.png", width=7),
        {"id": 9, "width": 8, "height": 6},
        image(10, "é" * 300),
    ]
    annotations = [
        annotation(1),
        annotation(10, image=99),
        annotation(11, category=4),
        annotation(12),
        annotation(12),
        annotation(13, segmentation=[[1, 1, 4, 1]]),
        annotation(14, segmentation=[[1, 1, 4, 1, 4, 4, 1]]),
        annotation(15, segmentation=[[1, 1, 4, 1, 4, "4"]]),
        annotation(16, segmentation=[[1, 1, 4, 1, 4, float("nan")]]),
        annotation(17, segmentation={"size": [8, 6], "counts": COUNTS}),
        annotation(18, segmentation={"size": [6, 8], "counts": COUNTS[:-1]}),
        annotation(19, segmentation={"size": [6, 8], "counts": "73"}),
        annotation(20, segmentation=[]),
        annotation(21, segmentation=moved(100, 0)),
        annotation(22, segmentation=SQUARE),
        {"image_id": 1, "category_id": 3},
        annotation(23, image=2, category=5),  # its image is gone, but this is a fault too
    ]
    found = split(make(tmp_path, annotations, images, missing=["gone.png"]))
    message = refusal(found.survey)
    assert message.startswith(f"{tmp_path / 'train.json'}: 9 of 11 images and 16 of 17 annotations cannot be used")
    assert "narrow.png: the image is 8 x 6 pixels but train.json says 7 x 6" in message
    for line in (
        "images that have no id or no file_name, 1: images[9]",
        "images that have no height and width in whole pixels, 1: 006.png",
        "images that share their id with another image, 2: 003.png (3), 003b.png (3)",
        "images that share their file_name with another image, 2: twice.png (id 4), twice.png (id 5)",
        r"images that have a file_name that is not valid UTF-8, 1: '\ud800.png'",
        f"images that have no file in {tmp_path / 'train'}, 2: gone.png, {'é' * 300}",
        "annotations that have an unknown image_id (expected the id of one in the file), 1: 10 (99)",
        "annotations that have an unknown category_id (expected the id of one in the file), 2: 11 (4), 23 (5)",
        "annotations that share their id with another annotation, 2: 12, 12",
        "annotations that have a polygon of under 3 points or an odd number of coordinates (expected x, y, x, y, x, y, "
        "...), 2: 13, 14",
        "annotations that have a polygon with other things than numbers in it (or numbers beyond a million), 2: 15, 16",
        "annotations that have an RLE of another size than their image (expected [height, width]), 1: 17 ([8, 6])",
        "annotations that have a damaged RLE (expected run lengths that add up to height * width), 2: 18, 19",
        "annotations that have no segmentation (expected polygons or RLE; a box alone is not enough), 2: 20, "
        "annotations[15]",
        "annotations that lie wholly outside their image (expected pixels from the top left corner), 1: 21",
        "annotations that have another segmentation than polygons [[x, y, x, y, ...], ...] or RLE {size, counts}, "
        "1: 22",
    ):
        assert f"\n  {line}\n" in message, line
    assert refusal(lambda: found[0]) in message  # who does not ask for a survey is told as well


def test_faults_are_skipped_up_to_one_percent(tmp_path, caplog):
    images = [image(key) for key in range(200)]
    annotations = [annotation(key, key % 200) for key in range(400)]
    for bad in (5, 6, 7, 8):
        annotations[bad]["category_id"] = 1
    make(tmp_path, annotations, images, missing=["010.png", "020.png"])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path, on_bad="skip")
    assert len(caplog.records) == 1
    assert "leaves out 2 of 200 images and 4 of 400 annotations" in caplog.text
    assert "4: 5 (1), 6 (1), 7 (1), 8 (1)" in caplog.text
    assert "010.png, 020.png" in caplog.text
    assert len(found) == 198
    assert "010" not in found.names
    assert found.survey().objects == 400 - 4 - 2 * 2
    assert len(found[5].masks) == 1
    assert found.names[10] == "011"
    assert len(found[10].masks) == 2
    annotations[9]["category_id"] = 1
    make(tmp_path, annotations, images)
    assert "data.on_bad=skip leaves out 1 % (or one) at most" in refusal(split(tmp_path, on_bad="skip").survey)


def test_a_fault_of_few_annotations_may_be_more_than_one_percent(tmp_path):
    make(tmp_path, [annotation(1), annotation(2, category=1)])
    assert split(tmp_path, on_bad="skip").survey().objects == 1
    make(tmp_path, [annotation(1), annotation(2, category=1), annotation(3, category=1)])
    assert "2 of 3 annotations" in refusal(split(tmp_path, on_bad="skip").survey)


def test_what_reaches_over_the_edge_is_clipped(tmp_path):
    make(tmp_path, [annotation(1, segmentation=[[-500, -500, 2, -500, 2, 900, -500, 900]])])
    assert torch.equal(split(tmp_path)[0].masks[0], torch.arange(8).expand(6, 8) < 2)


def test_an_annotation_thinner_than_a_pixel_is_no_object_and_no_error(tmp_path, caplog):
    make(tmp_path, [annotation(1, segmentation=[[2, 2, 2.1, 2, 2.1, 2.1]]), annotation(2)])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path)
    assert "1 annotations cover no pixel and are left out: 1" in caplog.text
    assert len(found[0].masks) == found.survey().objects == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"images": [],\n "annotations": [}', "is damaged at line 2, column 18"),
        ("", "is damaged at line 1, column 1"),
        ("[]", "holds a list but no COCO instance annotations"),
        ('{"shapes": [], "imagePath": "a.png"}', "the keys imagePath, shapes but no COCO instance annotations"),
        ('{"shapes": [], "imagePath": "a.png"}', "This looks like LabelMe"),
        ('{"images": [], "annotations": [{"segments_info": []}], "categories": []}', "This looks like COCO panoptic"),
        ('{"images": [], "annotations": [{"caption": "a dog"}]}', "This looks like COCO captions"),
        ('{"images": [], "annotations": {}, "categories": []}', "each a list"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "has the category {'id': 1}; expected"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    ],
)
def test_a_file_of_another_kind_is_named_by_what_it_holds(tmp_path, content, said):
    (tmp_path / "train").mkdir()
    (tmp_path / "train.json").write_text(content)
    message = refusal(lambda: split(tmp_path))
    assert message.startswith(f"{tmp_path / 'train.json'}: ")
    assert said in message


def test_missing_files_and_folders_are_named(tmp_path):
    assert "is not a folder; set data.root" in refusal(lambda: Coco(tmp_path / "none"))
    assert "train: is not a folder; name that of the images with data.train_images" in refusal(lambda: split(tmp_path))
    (tmp_path / "train").mkdir()
    assert "data.train and data.val" in refusal(lambda: split(tmp_path))


def turn(path, orientation, size=(6, 8)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(size, np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_image_that_was_annotated_as_stored_is_refused_with_the_reason(tmp_path, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}")])
    turn(tmp_path / "train" / f"a.{suffix}", 6)
    found = split(tmp_path)
    for act in (found.survey, lambda: found[0], lambda: found.annotations(0)):
        message = refusal(act)
        assert f"a.{suffix}: the image is 6 x 8 pixels but train.json says 8 x 6" in message
        assert "its size without its EXIF orientation" in message


def test_an_image_that_was_annotated_upright_is_read_upright(tmp_path):
    make(tmp_path, [annotation(1)], [image(1, "a.jpg")])
    turn(tmp_path / "train" / "a.jpg", 6, size=(8, 6))
    found = split(tmp_path)
    assert found.survey().objects == 1
    assert found[0].image.shape == (3, 6, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "size"), [(3, (6, 8)), (2, (6, 8)), (6, (8, 8))])
def test_a_turn_that_the_size_does_not_show_is_warned_of(tmp_path, caplog, orientation, size, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}", height=size[0])])
    turn(tmp_path / "train" / f"a.{suffix}", orientation, size)
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        split(tmp_path).survey()
    assert "1 images are turned or mirrored by their EXIF orientation" in caplog.text


def test_a_split_travels_to_workers_whole(tmp_path):
    found = split(make(tmp_path, [annotation(1)]))
    assert torch.equal(pickle.loads(pickle.dumps(found))[0].masks, found[0].masks)


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
        for mask, entry in zip(sample.masks, objects, strict=True):
            assert (mask.numpy() == reference.annToMask(entry)).all()
        for entry in entries:
            if entry["iscrowd"]:
                free = (reference.annToMask(entry) > 0) & ~sample.masks.any(0).numpy()
                assert sample.ignore[torch.from_numpy(free)].all()
    assert found.survey().objects == {"train": 164, "val": 251}[which]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png"])
def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    content = {"images": [{"id": 1, "file_name": name, "width": 8, "height": 8}], "annotations": [], "categories": []}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of"):
        Coco(tmp_path).split("train").survey()
