"""The same pixels in both splits, found before training."""

import json

import numpy as np
import pytest
import tifffile

from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import open_splits, survey_splits
from tests.data.sources.test_coco import annotation, image
from tests.support.files import MASK, save

OTHER = np.zeros_like(MASK)
OTHER[2:5, 2:6] = 255


def pixels(name):
    return np.random.default_rng([*map(ord, name)]).integers(0, 255, (6, 8, 3), np.uint8)


def pair(root, split, name, content=None, mask=MASK, suffix="png"):
    path = root / split / "images" / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == "tif":
        tifffile.imwrite(path, pixels(content or name), photometric="rgb")
    else:
        save(path, pixels(content or name))
    save(root / split / "masks" / f"{name}.png", mask)


def warnings_of(data, caplog):
    with caplog.at_level("WARNING", "sam_ft"):
        survey_splits(*open_splits(data))
    return [message for message in caplog.messages if "same pixels" in message]


COPIES = {  # as another file, with other masks, or both
    "of the file": {},
    "with another suffix": {"suffix": "bmp"},
    "with another format": {"suffix": "tif"},
    "with another mask": {"mask": OTHER},
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_val_is_warned_of(messages, tmp_path, caplog, kind):
    for split, names in (("train", "abcd"), ("val", "ef")):
        for name in names:
            pair(tmp_path, split, name)
    pair(tmp_path, "val", "copy", "b", **COPIES[kind])
    (warning,) = warnings_of(Folder(tmp_path), caplog)
    messages.check(warning, "1 of 3 images of val", "b = copy")


def test_equal_masks_and_names_are_no_copies(tmp_path, caplog):
    for split in ("train", "val"):
        for name in "abcd":
            pair(tmp_path, split, name, f"{split}{name}")
    assert not warnings_of(Folder(tmp_path), caplog)


def test_a_mask_of_all_images_makes_no_image_be_decoded(tmp_path, caplog):
    for split in ("train", "val"):
        for number in range(12):
            pair(tmp_path, split, f"{split}{number}")
    train, val = open_splits(Folder(tmp_path))
    train.__class__ = type("Unread", (type(train),), {"__getitem__": None})  # survey_splits would fail
    survey_splits(train, val)


def test_a_copy_in_a_coco_split_is_warned_of(messages, tmp_path, caplog):
    for split, names in (("train", "abc"), ("val", "de")):
        images = [image(number, f"{name}.png") for number, name in enumerate(names)]
        annotations = [annotation(number, number) for number in range(len(names))]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cell"}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        for name in names:
            save(tmp_path / split / f"{name}.png", pixels("a" if name == "e" else name))
    (warning,) = warnings_of(Coco(tmp_path), caplog)
    messages.check(warning, "1 of 2 images of val", "a = e")
