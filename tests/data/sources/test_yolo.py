import numpy as np
import pytest
from PIL import Image

from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.yolo import Yolo
from sam_ft.types import dense

SQUARE = "0.125 0.2 0.5 0.2 0.5 0.8 0.125 0.8"  # columns 1 to 3 and rows 2 to 7 of an 8 x 10 image


def write(root, images, yaml=None, lines=f"0 {SQUARE}", labels=True):
    """Images, each with a text file in labels/ in the place of images/."""
    for name in images:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 8), len(name), np.uint8)).save(path)
        if labels:
            text = root / f"/{name}".replace("/images/", "/labels/").lstrip("/")
            text.parent.mkdir(parents=True, exist_ok=True)
            text.with_suffix(".txt").write_text(lines + "\n")
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


def names(root, **options):
    data = Yolo(root, **options)
    return data.split("train").names, data.split("val").names


ULTRALYTICS = ["images/train/a.png", "images/val/b.png"]
ROBOFLOW = ["train/images/a.jpg", "valid/images/b.jpg", "test/images/c.jpg"]
NAMES = "names: [cell]\n"


@pytest.mark.parametrize(
    ("images", "yaml"),
    [
        (ULTRALYTICS, f"train: images/train\nval: images/val\n{NAMES}"),
        (ULTRALYTICS, f"path: ../datasets/cells\ntrain: images/train\nval: images/val\n{NAMES}"),
        (ULTRALYTICS, f"path: /home/u/datasets/cells\ntrain: images/train\nval: images/val\ntest:\n{NAMES}"),
        (ULTRALYTICS, f"train: [images/train]\nval: ['images/val']\n{NAMES}"),
        (ULTRALYTICS, f"train: 'D:\\sets\\cells\\images\\train'\nval: 'D:\\sets\\cells\\images\\val'\n{NAMES}"),
        (ULTRALYTICS, None),
        (ROBOFLOW, f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n{NAMES}"),
        (ROBOFLOW, f"train: cells-1/train/images\nval: cells-1/valid/images\nnc: 1\n{NAMES}"),
        (ROBOFLOW, "names: {0: cell}\n"),
        (["train/a.png", "val/b.png"], f"train: train\nval: val\n{NAMES}"),
        (["images/train/deep/a.png", "images/val/deep/b.png"], f"train: images/train\nval: images/val\n{NAMES}"),
    ],
)
def test_the_folders_of_the_splits_are_found(tmp_path, images, yaml):
    root = write(tmp_path, images, yaml)
    assert names(root) == (["a"], ["b"])
    train = Yolo(root).split("train")
    assert train.classes == {0: "0" if yaml is None else "cell"}
    sample = train[0]
    assert sample.masks.boxes().tolist() == [[1, 2, 4, 8]]
    assert dense(sample.masks).sum() == 18
    assert train.survey().objects == 1


def test_lists_of_images_may_have_paths_of_another_machine(messages, tmp_path):
    root = write(tmp_path, ULTRALYTICS, f"train: train.txt\nval: val.txt\n{NAMES}")
    (root / "train.txt").write_text("/home/u/cells/images/train/a.png\n./images/train/gone.png\n")
    (root / "val.txt").write_text("images\\val\\b.png\n", encoding="utf-16")
    assert Yolo(root).split("val").names == ["b"]
    messages.refusal(Yolo(root).split("train").survey, "gone.png", "data.missing=skip")
    assert Yolo(root, missing="skip").split("train").names == ["a"]


@pytest.mark.parametrize("yaml", [f"train: images\nval: images\n{NAMES}", f"train: ./images\n{NAMES}", None])
def test_one_folder_is_split_by_the_names(tmp_path, yaml):
    root = write(tmp_path, [f"images/{name}.png" for name in "abcdefgh"], yaml)
    train, val = names(root, val_fraction=0.4)
    assert sorted(train + val) == list("abcdefgh")
    assert 1 < len(val) < 7


def test_classes_have_the_names_of_the_yaml(messages, tmp_path):
    yaml = "train: images/train\nval: images/val\nnames:\n  0: cell\n  3: nucleus\n"
    root = write(tmp_path, ULTRALYTICS, yaml, lines=f"3 {SQUARE}\n0.0 {SQUARE}\n")
    sample = Yolo(root).split("train")[0]
    assert Yolo(root).split("train").classes == {0: "cell", 3: "nucleus"}
    assert sample.labels.tolist() == [3, 0]
    assert Yolo(root, categories=["nucleus"]).split("train")[0].labels.tolist() == [3]
    messages.refusal(lambda: Yolo(root, categories=["x"]).split("train"), "data.categories")


def test_an_image_without_lines_has_no_objects(tmp_path):
    root = write(tmp_path, [*ULTRALYTICS, "images/train/c.png", "images/train/d.png"])
    (root / "labels/train/c.txt").unlink()
    (root / "labels/train/d.txt").write_text("")
    assert Yolo(root).split("train").survey().empty == ["c", "d"]


def test_text_files_without_an_image_are_warned_of(messages, tmp_path, caplog):
    root = write(tmp_path, [*ULTRALYTICS, "images/train/c.png"])
    (root / "labels/train/c.txt").rename(root / "labels/train/c_1.txt")
    (root / "labels/train/classes.txt").write_text("cell\n")
    found: list[Issue] = []
    with caplog.at_level("WARNING", "sam_ft"):
        assert Yolo(root).usable_split("train", found).survey().empty == ["c"]
    messages.logged(caplog, "labels/train/c_1.txt")
    assert [(issue.name, issue.level) for issue in found] == [("labels/train/c_1.txt", "warning")]


def test_a_text_file_of_two_images_is_warned_of(messages, tmp_path, caplog):
    root = write(tmp_path, [*ULTRALYTICS, "images/train/a.jpg"])
    with caplog.at_level("WARNING", "sam_ft"):
        assert Yolo(root).split("train").survey().objects == 2
    (record,) = caplog.records
    assert "labels/train/a.txt" in record.getMessage()
    messages.logged(caplog, "several images")


def test_a_yaml_in_a_folder_below_is_named(messages, tmp_path):
    write(tmp_path / "cells", ULTRALYTICS, f"train: images/train\nval: images/val\n{NAMES}")
    messages.refusal(lambda: Yolo(tmp_path).split("train"), tmp_path / "cells" / "data.yaml", "data.root")


def test_text_files_of_the_images_of_the_other_split_are_no_surplus(tmp_path, caplog):
    lists = {"train": "images/a.png\n", "val": "images/b.png\n"}
    root = write(tmp_path, ["images/a.png", "images/b.png"], f"train: train.txt\nval: val.txt\n{NAMES}")
    for split, text in lists.items():
        (root / f"{split}.txt").write_text(text)
    with caplog.at_level("WARNING", "sam_ft"):
        assert names(root) == (["a"], ["b"])
    assert not caplog.records


def test_all_faults_are_listed_in_one_error(messages, tmp_path):
    lines = [
        "0 0.5 0.5 0.2 0.2",
        "0 10 20 50 20 50 80",
        "0 0.1 0.1 x 0.1 0.2 0.2",
        "0 0.1 0.1 0.2 0.1",
        "0 0.1 0.1 0.2 0.1 0.2 0.2 0.3",
        f"7 {SQUARE}",
        f"cell {SQUARE}",
        "0",
        "0 nan 0.1 0.2 0.1 0.2 0.2",
        f"0 {SQUARE}",
        "0 -0.01 0 1.01 0 1.01 0.5",
        "0,0.1,0.1,0.2,0.1,0.2,0.2",
        "0 0,1 0,1 0,2 0,1 0,2 0,2",
    ]
    root = write(tmp_path, ULTRALYTICS, f"train: images/train\nval: images/val\n{NAMES}", "\n".join(lines))
    (root / "images/train/e.png").write_bytes(b"")
    facts = ["1 of 2 images", "11 of 13 annotations", "labels/train/a.txt: line 2", "a box alone", "e.png"]
    messages.refusal(Yolo(root).split("train").survey, *facts)


@pytest.mark.parametrize(
    ("yaml", "facts"),
    [
        ("train: images/train\nval: images/none\n", ["images/none", "val"]),
        ("- a", ["data.yaml: ", "list"]),
        ("a: [", ["data.yaml: "]),
        ("a: 1\nb:\timages\n", ["data.yaml: ", "line 2", "\\t"]),
        ("a: &a [1]\nb: *a\n", ["data.yaml: ", "alias"]),
        ("names: [" + "a, " * 400_000 + "]", ["data.yaml: ", "bytes"]),
    ],
)
def test_a_yaml_that_cannot_be_used_is_named(messages, tmp_path, yaml, facts):
    root = write(tmp_path, ["images/train/a.png"], yaml)
    messages.refusal(lambda: Yolo(root).split("val"), *facts)


def test_files_that_are_not_there_are_named(messages, tmp_path):
    messages.refusal(lambda: Yolo(tmp_path / "none"), tmp_path / "none", "data.root")
    messages.refusal(lambda: Yolo(tmp_path, yaml="x.yaml").split("val"), tmp_path / "x.yaml", "data.yaml")
    messages.refusal(lambda: Yolo(tmp_path).split("val"), tmp_path, "val")
    write(tmp_path, ULTRALYTICS, labels=False)
    messages.refusal(lambda: Yolo(tmp_path).split("val"), tmp_path, "images/val/b.png", "labels/")
