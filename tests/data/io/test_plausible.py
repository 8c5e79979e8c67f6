"""Pictures that are given as masks."""

import cv2
import numpy as np
import pytest
import tifffile

from sam_ft.data.io.objects import read_objects
from sam_ft.data.io.plausible import count_pieces
from sam_ft.data.io.rules import Rules
from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.utils.errors import DataError
from tests.support.files import refusal, save

RNG = np.random.default_rng(0)


def picture(sigma, largest=255, dtype=np.uint8, size=(96, 128)):
    noise = cv2.GaussianBlur(RNG.random(size), (0, 0), sigma)
    return cv2.normalize(noise, None, 0, largest, cv2.NORM_MINMAX).astype(dtype)


def cells(count, size=(400, 500), radius=9):
    ids = np.zeros(size, np.uint16)
    for key in range(1, count + 1):
        cv2.circle(ids, (int(RNG.integers(size[1])), int(RNG.integers(size[0]))), int(RNG.integers(2, radius)), key, -1)
    return ids


PICTURES = {
    "noise": picture(0.5),
    "smooth": picture(4),
    "16 bit": picture(2, 60000, np.uint16),
    "dark": np.maximum(picture(2).astype(int) - 120, 0).astype(np.uint8),
    "gray as RGB": np.dstack([picture(2)] * 3),
    "colors": np.dstack([picture(2), picture(2), picture(2)]),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("rules", [Rules("instances"), Rules(), Rules("components"), Rules("classes", {"a": 1})])
def test_a_picture_is_no_mask(tmp_path, kind, rules):
    path = save(tmp_path / "m.png", PICTURES[kind])
    with pytest.raises(DataError, match=r"m\.png: .*\n?.*swapped.*data\.image_folder and data\.mask_folder"):
        read_objects(path, rules)


def test_colors_of_a_picture_are_no_classes(tmp_path):
    with pytest.raises(DataError, match="swapped"):
        read_objects(save(tmp_path / "m.png", PICTURES["colors"]), Rules("classes", {"a": [1, 2, 3]}))


def test_values_of_a_small_16_bit_picture_are_refused_though_each_has_few_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", picture(1, 60000, np.uint16, (64, 64)))
    with pytest.raises(DataError, match=r"m\.tif: .*swapped"):
        read_objects(tmp_path / "m.tif", Rules("instances"))


MAPS = {
    "touching cells": cells(900),
    "few large ones": cells(40, radius=120),
    "specks": cells(2000, (600, 800), 3),
    "tiles": np.kron(np.arange(400, dtype=np.uint16).reshape(20, 20), np.ones((13, 7), np.uint16)),
    "lines": np.where(np.arange(300)[:, None] % 3 == 0, np.arange(300)[:, None] // 3 + 1, np.zeros((300, 200))),
    "crossing fibers": np.zeros((300, 300)),
}
for key in range(1, 60):
    ends = [tuple(map(int, RNG.integers(0, 300, 2))) for _ in range(2)]
    cv2.line(MAPS["crossing fibers"], *ends, key, 2)


@pytest.mark.parametrize("kind", MAPS)
def test_an_id_map_of_many_objects_is_read(tmp_path, kind):
    ids = MAPS[kind].astype(np.uint16)
    found = read_objects(save(tmp_path / "m.png", ids), Rules("instances"))
    assert found.count == len(np.unique(ids)) - 1


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (2, 3)])
def test_maps_of_a_row_or_a_column_are_read(tmp_path, shape):
    ids = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16) // 5
    assert read_objects(save(tmp_path / "m.png", ids), Rules("instances")).count == ids.max()


def test_pieces_are_counted_with_their_corners():
    ids = np.zeros((6, 8), np.uint8)
    ids[0, :3] = ids[5, 6] = 1
    ids[1:3, 5:8] = 2
    ids[3, 4] = 2  # at a corner
    ids[3, 0] = 2
    assert count_pieces(ids) == 4


def test_swapped_folders_are_refused_before_training(tmp_path):
    for name in "abcdefghij":
        save(tmp_path / "labels" / f"{name}.png", picture(1, 60000, np.uint16, (300, 400)))
        save(tmp_path / "photos" / f"{name}.png", cells(30, (300, 400)))
    data = Folder(tmp_path, image_folder="photos", mask_folder="labels", objects="instances")
    message = refusal(lambda: survey_splits(*open_splits(data)))  # whose numbers depend on OpenCV
    assert message.count("may be swapped") == 2  # once for each split
    assert " files in " in message


def test_one_folder_for_both_is_refused(messages, tmp_path):
    for name in "abcd":
        save(tmp_path / "data" / f"{name}.png", cells(3, (24, 32)).astype(np.uint8))
    (tmp_path / "link").symlink_to("data")
    for masks in ("data", "link", "data/../data"):
        data = Folder(tmp_path, image_folder="data", mask_folder=masks, objects="instances")
        messages.refusal(lambda data=data: data.split("train"), "data: ", "data.image_folder", "data.mask_folder")


@pytest.mark.parametrize("objects", ["whole", "components", "instances"])
def test_copies_of_the_images_are_no_masks(messages, tmp_path, objects):
    for name in "abcd":
        disc = (cells(2, (24, 32)) > 0).astype(np.uint8) * 255
        for folder in ("images", "masks"):
            save(tmp_path / folder / f"{name}.png", disc)
    data = Folder(tmp_path, objects=objects, val_fraction=0.5)
    messages.refusal(data.split("train").survey, "masks", "same file as its image", "data.mask_folder")
    _, issues, _ = data.split("train").examine(0)
    assert ["same file" in issue.problem for issue in issues] == [True]


def test_a_black_image_with_an_empty_mask_is_no_copy(tmp_path):
    for name in "abcd":
        for folder in ("images", "masks"):
            save(tmp_path / folder / f"{name}.png", np.zeros((24, 32), np.uint8))
    assert Folder(tmp_path, val_fraction=0.5).split("train").survey().objects == 0
