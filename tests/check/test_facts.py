"""Facts of a data set in the report: sizes, classes, lossy masks, separate parts."""

import numpy as np

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text
from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import open_splits, survey_splits
from tests.check.test_check import IDS, listed, noise, pairs
from tests.support.files import save


def test_sizes_are_counted_in_pixels_of_the_input(messages, tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        pairs(tmp_path / split, name)
    folder = Folder(tmp_path, objects="instances")
    sides = check_dataset(folder, 64).splits["train"].box_sides  # 32 pixels become 64: 10 and 14 become 20 and 28
    assert sides == [20, 28]
    found = check_dataset(folder, 16)  # 5 and 7
    messages.line(as_text(found), "[train]", "2 of 2 objects", "8 pixels", " 16")
    assert not check_dataset(folder, 32).issues  # 10 and 14
    assert not check_dataset(folder, 19).issues  # 5.9 and 8.3: half of them is not most of them
    assert found.count("error") == 0
    tiled = Folder(tmp_path, objects="instances", tile=16)  # 10 and 14 pixels again, as of the images themselves
    assert check_dataset(tiled, 16).splits["train"].box_sides == [10, 14]
    assert not check_dataset(Folder(tmp_path, objects="instances", tile="auto"), 16).issues


def test_classes_are_counted_and_absent_ones_named(messages, tmp_path):
    one = np.where(IDS == 1, IDS, 0)
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "train", "c", ids=one)
    pairs(tmp_path / "val", "d", ids=one)
    save(tmp_path / "train" / "masks" / "b.png", np.where(IDS == 2, 7, IDS).astype(np.uint8))
    classes = {"crop": 1, "weed": 2, "tree": 3}
    text = as_text(check_dataset(Folder(tmp_path, objects="classes", classes=classes), 1024))
    assert "objects of class  train  val\ncrop                  2    1\nweed                  1    0\n\n" in text
    messages.check(
        listed(text),
        "1 class in val: weed",
        "1 class in train and val: tree",
        "b.png: ",
        "7 (84 pixels)",
        "data.classes",
    )


def test_lossy_masks_and_deep_images_are_reported_but_are_no_errors(messages, tmp_path):
    pairs(tmp_path / "train", "a")
    pairs(tmp_path / "val", "b")
    save(tmp_path / "train" / "images" / "jpeg.png", noise("jpeg"))
    save(tmp_path / "train" / "masks" / "jpeg.jpg", (IDS > 0).astype(np.uint8) * 255, quality=60)
    for split, name in (("train", "a"), ("val", "b")):
        save(tmp_path / split / "masks" / f"{name}.png", (IDS > 0).astype(np.uint8))
    save(tmp_path / "val" / "images" / "b.png", np.arange(24 * 32, dtype=np.uint16).reshape(24, 32))
    found = check_dataset(Folder(tmp_path, min_area=85), 1024)  # of the two parts one is smaller
    assert [(issue.level, issue.name, issue.problem) for issue in found.issues] == [
        ("warning", "jpeg.jpg", "is lossy"),
        ("note", "b.png", "has values of uint16"),
    ]
    messages.line(as_text(found), "0.5 and 99.5 percentile", "data.intensity=percentile")


def test_masks_of_several_parts_are_noted_where_each_is_one_object(messages, tmp_path, caplog):
    mask = (IDS > 0).astype(np.uint8)
    mask[0, 31] = 1  # a speck, which counts for nothing
    corners = np.zeros_like(mask)
    corners[:4, :4] = corners[-4:, :4] = corners[:4, -4:] = corners[-4:, -4:] = 1
    pairs(tmp_path / "train", "a", ids=mask)
    pairs(tmp_path / "train", "b", ids=corners)
    pairs(tmp_path / "train", "c", ids=mask * 0)
    pairs(tmp_path / "val", "d", ids=np.where(IDS == 1, mask, 0).astype(np.uint8))
    caplog.set_level("INFO", "sam_ft")
    text = as_text(check_dataset(Folder(tmp_path), 1024))
    messages.line(text, "[train] ", "3.0 separate parts", "data.objects=components")
    assert text.count("separate parts") == 1
    assert "separate parts" not in as_text(check_dataset(Folder(tmp_path, objects="components"), 1024))
    assert "separate parts" not in as_text(check_dataset(Folder(tmp_path, min_area=85), 1024))  # one of 100 pixels
    survey_splits(*open_splits(Folder(tmp_path)))
    assert caplog.text.count("separate parts") == 1


def test_a_folder_without_any_objects_is_an_error(messages, tmp_path):
    pairs(tmp_path / "train", "a", ids=IDS * 0)
    pairs(tmp_path / "val", "b")
    text = as_text(check_dataset(Folder(tmp_path), 1024))
    messages.line(text, "[train] train: ", "no objects")
