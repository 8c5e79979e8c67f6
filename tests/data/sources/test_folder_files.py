"""Files of a folder that do not pair, are not read, or lead elsewhere."""

import os
from pathlib import Path

import pytest

from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import open_splits, survey_splits
from tests.data.sources.test_layout import masks_of, write
from tests.support.files import make


def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path):
    write(tmp_path, "images/p/a.png", "masks/p/a.png")
    (tmp_path / "images/p/up").symlink_to(tmp_path / "images")
    assert masks_of(tmp_path, recursive=True).keys() == {"p/a"}


def test_a_link_to_itself_is_a_problem_of_one_file(messages, tmp_path):
    make(tmp_path, "abc")
    for side in ("images", "masks"):
        (tmp_path / side / "d.png").symlink_to(tmp_path / side / "d.png")
    messages.refusal(lambda: survey_splits(*open_splits(Folder(tmp_path))), "images/d.png: cannot be read")


def test_a_folder_that_cannot_be_read_is_named(messages, tmp_path, monkeypatch):
    make(tmp_path, "ab")
    (tmp_path / "images/p").mkdir()
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "p":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    messages.refusal(lambda: Folder(tmp_path, recursive=True).split("val"), "images/p: ", "Permission denied")


def test_one_folder_for_both_is_refused_without_a_way_to_tell_them_apart(messages, tmp_path):
    write(tmp_path, "data/a.png", "data/a_mask.png")
    for name in ("data", "data/", "./data"):
        facts = ["data: ", "data.image_folder", "1 of 1 images pair with", "data.mask_suffix=_mask"]
        messages.refusal(lambda name=name: Folder(tmp_path, name, "data", val_fraction=1).split("val"), *facts)


def test_files_that_do_not_pair_are_refused_with_the_setting_that_pairs_most(messages, tmp_path):
    write(tmp_path, "images/a.png", "images/b.png", "masks/a_seg.png", "masks/b_seg.png", "masks/list.txt")
    facts = ["2 without a mask", "2 of 2 images pair with data.mask_suffix=_seg", "YOLO"]
    messages.refusal(lambda: Folder(tmp_path).split("train"), *facts)


@pytest.mark.parametrize(
    ("file", "fact"),
    [("a.heic", ".jfif"), ("p1/a.png", "data.recursive=true"), ("a.npy", "PNG"), ("a.json", "data=labelme")],
)
def test_files_that_are_not_read_are_named_with_the_remedy(messages, tmp_path, file, fact):
    write(tmp_path, f"images/{file}", "masks/a.png")
    messages.refusal(lambda: Folder(tmp_path).split("train"), fact)


def test_other_annotations_are_named_where_a_folder_is_missing(messages, tmp_path):
    write(tmp_path, "images/train/a.png", "labels/train/a.txt")
    messages.refusal(lambda: Folder(tmp_path).split("train"), "data=yolo")


def test_names_that_differ_in_case_are_named(messages, tmp_path):
    write(tmp_path, "images/IMG_1.png", "images/b.png", "masks/img_1.png", "masks/b.png")
    messages.refusal(lambda: Folder(tmp_path).split("train"), "1 names differ", "IMG_1 and img_1")
