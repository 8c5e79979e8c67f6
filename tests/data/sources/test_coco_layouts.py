"""COCO files as the tools write them: their layouts and names of files."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.locate import locate
from tests.data.sources.test_coco import CATEGORIES, annotation, image, make, moved, split

ROBOFLOW = "_annotations.coco.json"


def coco(*names, **more):
    """A COCO file with one object in each image, at another place in each."""
    return {
        "images": [{"id": key, "file_name": name, "width": 8, "height": 6, **more} for key, name in enumerate(names)],
        "annotations": [annotation(key, key, segmentation=moved(key % 5, 0)) for key in range(len(names))],
        "categories": CATEGORIES,
    }


def of_url(content):
    """LVIS has URLs in the place of file names."""
    for entry in content["images"]:
        entry["coco_url"] = f"http://images.cocodataset.org/{entry.pop('file_name')}"
    return content


def of_one(name):
    (picture,), (entry,) = (coco(name)[key] for key in ("images", "annotations"))
    return {"image": picture, "annotations": [{key: entry[key] for key in ("id", "segmentation")}]}


def lay_out(root, jsons, images):
    for name, content in jsons.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), len(name), np.uint8)).save(root / name)
    return root


PLACES = ["train/a", "train/e", "train/f", "val/b", "val/g", "val/h"]
PAIRS = {
    "roboflow": (
        {f"train/{ROBOFLOW}": coco("a.png"), f"valid/{ROBOFLOW}": coco("b.png"), f"test/{ROBOFLOW}": coco("c.png")},
        ["train/a.png", "valid/b.png", "test/c.png"],
    ),
    "cvat, subsets": (
        {
            "annotations/instances_Train.json": coco("a.png"),
            "annotations/instances_Validation.json": coco("b.png"),
        },
        ["images/Train/a.png", "images/Validation/b.png", "images/Train/b.png"],
    ),
    "coco": (
        {
            "annotations/instances_train2017.json": coco("a.png"),
            "annotations/instances_val2017.json": coco("b.png"),
            "annotations/captions_train2017.json": {},
            "annotations/person_keypoints_val2017.json": {},
        },
        ["train2017/a.png", "val2017/b.png", "train2017/b.png"],
    ),
    "lvis": (
        {
            "lvis_v1_train.json": of_url(coco("train2017/a.png")),
            "lvis_v1_val.json": of_url(coco("train2017/b.png", "val2017/c.png")),
        },
        ["train2017/a.png", "train2017/b.png", "val2017/c.png"],
    ),
    "fiftyone": (
        {"train/labels.json": coco("a.png"), "validation/labels.json": coco("b.png")},
        ["train/data/a.png", "validation/data/b.png"],
    ),
    "sa-1b, two folders": (
        {f"{place}.json": of_one(f"{place[-1]}.png") for place in PLACES},
        [f"{place}.png" for place in PLACES],
    ),
    "sa-1b, an image each": (
        {"train/a.json": of_one("a.png"), "val/b.json": of_one("b.png")},
        ["train/a.png", "val/b.png"],
    ),
    "deep below": (
        {"set/annotations/train/coco.JSON": coco("a.png"), "set/annotations/val/coco.json": coco("b.png")},
        ["set/images/train/a.png", "set/images/val/b.png"],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_files_of_both_splits_are_found(tmp_path, name):
    data = Coco(lay_out(tmp_path, *PAIRS[name]))
    train, val = data.split("train"), data.split("val")
    assert (train.names[0], val.names[0]) == ("a", "b")
    assert (len(train), len(val)) == {"lvis": (1, 2), "sa-1b, two folders": (3, 3)}.get(name, (1, 1))
    assert train.survey().objects == len(train)
    assert val.survey().objects == len(val)


SIX = [f"{name}.png" for name in "abcdefgh"]
SINGLE = {
    "cvat": ({"annotations/instances_default.json": coco(*SIX)}, [f"images/default/{name}" for name in SIX]),
    "label studio on windows": (
        {"result.json": coco(*(f"images\\{name}" for name in SIX))},
        [f"images/{name}" for name in SIX],
    ),
    "makesense": ({"labels_my-project-name_2026.json": coco(*SIX)}, [f"photos/{name}" for name in SIX]),
    "sa-1b": ({f"data/{name}.json": of_one(f"{name}.png") for name in "abcdefgh"}, [f"data/{name}" for name in SIX]),
}


@pytest.mark.parametrize("name", SINGLE)
def test_the_images_of_one_file_are_split_by_their_names(tmp_path, name):
    root = lay_out(tmp_path, *SINGLE[name])
    found = {}
    for fraction in (0.3, 0.6):
        data = Coco(root, val_fraction=fraction)
        splits = data.split("train"), data.split("val")
        assert sorted(splits[0].names + splits[1].names) == list("abcdefgh")
        for one in splits:
            for index, own in enumerate(one.names):
                position = "abcdefgh".index(own) if name != "sa-1b" else 0
                assert one[index].masks.boxes()[0, 0] == 1 + position % 5
        found[fraction] = set(splits[1].names)
    assert found[0.3] < found[0.6]


def test_the_same_file_twice_is_split_and_a_forgotten_one_is_asked_for(messages, tmp_path):
    root = lay_out(tmp_path, {"train.json": coco(*SIX), "vla.json": coco(*SIX)}, [f"train/{name}" for name in SIX])
    data = Coco(root, train="train.json", val="train.json", val_fraction=0.4)
    assert len(data.split("train")) + len(data.split("val")) == 8
    messages.refusal(lambda: Coco(root).split("val"), "vla.json", "data.val")
    assert len(Coco(root).split("train")) == 8


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("b/c.png", "b/c.png"),
        (r"b\c.png", "b/c.png"),
        (r"D:\x\b\c.png", "b/c.png"),
        ("/home/u/set/b/c.png", "b/c.png"),
        ("../set/c.png", "c.png"),
        ("./b/./c.png", "b/c.png"),
        ("https://u:p@host:80/set/b/c.png?sig=a%2Fb#x", "b/c.png"),
        ("s3://bucket/my%20set/b/d%20e.png", "b/d e.png"),
        ("/data/local-files/?d=set%2Fb/c.png", "b/c.png"),
        ("b/../../secret.png", None),
        ("/etc/passwd", None),
        ("~/c.png/x", None),
        ("c" * 5000, None),
        ("c\0.png", None),
        ("mu\u0308ller.png", "m\xfcller.png"),
        ("x/m\xfcller.png", "m\xfcller.png"),
        ("b", None),
        ("", None),
    ],
)
def test_a_name_of_another_machine_leads_to_the_file_of_the_folder(tmp_path, name, found):
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    for path in ("c.png", "b/c.png", "b/d e.png", "m\xfcller.png", "../secret.png"):
        (folder / path).touch()
    assert locate(folder, name) == found


def test_two_names_that_lead_to_one_file_are_refused(messages, tmp_path):
    root = make(tmp_path, [annotation(1)], [image(1, "x.png"), image(2, "other/x.png")], missing=["other/x.png"])
    messages.refusal(split(root).survey, "2 of 2 images", "x.png (id 1), other/x.png (id 2)")


def test_names_of_which_only_the_end_is_there_are_warned_of(messages, tmp_path, caplog):
    make(tmp_path, [annotation(1)], [image(1, "x.png")])
    content = coco("batch_1/x.png")
    (tmp_path / "train.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert split(tmp_path).names == ["x"]
    messages.logged(caplog, "train.json", "1 images", "batch_1/x.png")


def test_images_that_are_not_there_are_left_out_and_counted(messages, tmp_path, caplog):
    images = [image(key) for key in range(8)]
    entries = [annotation(key, key // 2, segmentation=moved(key % 2, 0)) for key in range(16)]
    make(tmp_path, entries, images, missing=[f"00{key}.png" for key in range(1, 6)])
    messages.refusal(split(tmp_path).survey, "5 of 8 images", "data.missing=skip")
    messages.refusal(split(tmp_path, on_bad="skip").survey, "data.missing=skip")
    caplog.clear()  # of the names of the files, which are logged where a test before has set the level
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path, missing="skip")
    messages.logged(caplog, "5 images", "001.png, 002.png, 003.png, 004.png, 005.png")
    assert found.names == ["000", "006", "007"]
    assert found.survey().objects == 6
    for path in (tmp_path / "train").iterdir():
        path.unlink()
    act = lambda: split(tmp_path, train_images="train", missing="skip")  # noqa: E731
    messages.refusal(act, "train.json: ", "8 images", tmp_path / "train")


def test_a_part_of_a_large_set_may_lack_the_first_images(tmp_path):
    names = [f"{key}.png" for key in range(40)]
    root = lay_out(tmp_path, {"a.json": coco(*names)}, [f"pictures/{name}" for name in names[30:]])
    data = Coco(root, missing="skip", val_fraction=0.5)
    assert sorted(data.split("train").names + data.split("val").names) == [str(key) for key in range(30, 40)]


@pytest.mark.parametrize(
    ("folders", "used", "warned"),
    [
        (["train", "val"], "train", "val"),
        (["annotations", "images"], "images", ""),
        (["images/large", "images/small"], "images/large", "images/small"),
    ],
)
def test_other_folders_with_the_same_names_are_warned_of(messages, tmp_path, caplog, folders, used, warned):
    paths = [f"{folder}/{name}.png" for folder in folders for name in "ab"]
    root = lay_out(tmp_path, {"annotations/a.json": coco("a.png", "b.png")}, paths)
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = Coco(root, val_fraction=0.5).split("train")
    assert found.folder == tmp_path / used
    if warned:
        messages.logged(caplog, "same names", tmp_path / used, tmp_path / warned, "data.train_images")
        assert [issue.name for issue in found.json_issues()][:1] == [str(tmp_path / warned)]
    else:
        assert not caplog.records


def test_images_in_several_folders_need_them_in_their_names(messages, tmp_path, caplog):
    names = ["a.png", "b.png", "c.png"]
    root = lay_out(tmp_path, {"a.json": coco(*names)}, ["images/1/a.png", "images/1/b.png", "images/2/c.png"])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        messages.refusal(Coco(root).split("train").survey, "c.png")
    messages.logged(caplog, "file_name", tmp_path / "images" / "1", tmp_path / "images" / "2")


def test_files_of_labelme_are_named(messages, tmp_path):
    labelme = {"shapes": [], "imagePath": "a.png"}
    root = lay_out(tmp_path, {"a.json": labelme, "b.json": labelme}, ["a.png", "b.png"])
    messages.refusal(lambda: Coco(root).split("train"), tmp_path / "a.json", "data=labelme")


@pytest.mark.parametrize("name", ["a 1.jpg", "A 1.PNG", "a%201.png", "a 1", r"D:\x\a 1.tif"])
def test_an_image_of_a_similar_name_is_named(messages, tmp_path, name):
    lay_out(tmp_path, {"all.json": coco(name)}, ["pictures/a 1.png"])
    messages.refusal(lambda: Coco(tmp_path).split("train"), tmp_path / "pictures" / "a 1.png", "names in the JSON")
