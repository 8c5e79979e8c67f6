"""Folders, images and masks that training refuses."""

import shutil

import numpy as np
from PIL import Image

from tests.end_to_end.conftest import CONFIG, DATA
from tests.support.cli import SMALL


def test_a_folder_that_is_not_there(train):
    train(DATA, "nowhere", overrides=["data.root=/nowhere"])


def test_a_root_that_was_not_given(refused, tmp_path):
    refused(CONFIG, "data.root=...", overrides=[*SMALL, "data=folder", f"run_dir={tmp_path}"])


def test_a_mask_folder_that_is_not_there(train):
    train(DATA, "labels", "instances", overrides=["data.mask_folder=labels"])


def test_masks_that_are_missing_extra_and_ambiguous_are_listed_together(train, folder):
    (folder / "train.txt").unlink()
    (folder / "val.txt").unlink()
    (folder / "instances/blobs_0.png").unlink()
    shutil.copy(folder / "instances/blobs_1.png", folder / "instances/stray.png")
    shutil.copy(folder / "images/blobs_2.png", folder / "images/blobs_2.bmp")
    train(DATA, "blobs_0", "stray", "blobs_2")


def test_a_mask_of_another_size(train, folder):
    Image.fromarray(np.ones((5, 7), np.uint16)).save(folder / "instances/blobs_0.png")
    train(DATA, "blobs_0.png", "7 x 5", "72 x 48")


def test_a_mask_of_several_classes(train, folder):
    ids = np.zeros((48, 72), np.uint8)
    ids[:10], ids[10:20] = 1, 2
    Image.fromarray(ids).save(folder / "masks/blobs_0.png")
    train(DATA, "blobs_0.png", "data.objects=instances", objects="whole")


def test_an_unreadable_mask(train, folder):
    path = folder / "instances/blobs_0.png"
    path.write_bytes(path.read_bytes()[:60])
    train(DATA, "blobs_0.png")


def test_an_image_that_breaks_off_is_named_when_it_is_read(train, folder):
    path = folder / "images/blobs_0.png"
    path.write_bytes(path.read_bytes()[:-200])
    train(DATA, "blobs_0.png")


def test_images_without_a_single_object(train, folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    train(DATA, "data.*", objects="whole")
