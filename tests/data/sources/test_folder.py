import os

import pytest

from sam_ft.data.sources import pairing
from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.table import Table
from tests.support.files import MASK, make, save


def test_files_pair_by_stem_whatever_the_suffix(tmp_path):
    suffixes = ["png", "JPG", "jpeg", "bmp", "tif", "TIFF", "webp", "gif"]
    for number, suffix in enumerate(suffixes):
        save(tmp_path / "images" / f"n{number}.v1.{suffix}", MASK)
        save(tmp_path / "masks" / f"n{number}.v1.{suffixes[-number - 1]}", MASK)
    for hidden in (".DS_Store", "._n0.v1.png", ".n0.v1.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "images" / hidden).write_text("no image")
    folder = Folder(tmp_path, val_fraction=0.4)
    assert sorted(folder.split("train").names + folder.split("val").names) == [f"n{n}.v1" for n in range(8)]


def test_all_that_does_not_pair_is_listed_in_one_error(messages, tmp_path):
    make(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    save(tmp_path / "masks" / "extra.png", MASK)
    save(tmp_path / "images" / "c.jpg", MASK)
    save(tmp_path / "masks" / "d.bmp", MASK)
    facts = ["masks/: b;", "images/: extra;", "4 ", ": c.jpg, c.png, d.bmp, d.png."]
    messages.refusal(lambda: Folder(tmp_path).split("train"), *facts)


def test_a_long_list_is_cut_after_ten_names(messages, tmp_path):
    for number in range(14):
        save(tmp_path / "images" / f"{number:02d}.png", MASK)
    (tmp_path / "masks").mkdir()
    facts = ["14 ", "masks/: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 4 more."]
    messages.refusal(lambda: Folder(tmp_path).split("train"), *facts)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_utf8_is_listed(messages, tmp_path):
    make(tmp_path)
    for folder in ("images", "masks"):
        try:
            os.rename(tmp_path / folder / "a.png", os.fsencode(tmp_path / folder) + b"/caf\xe9.png")
        except OSError:
            pytest.skip("this file system allows UTF-8 names only")
    messages.refusal(lambda: Folder(tmp_path).split("train"), "UTF-8", r"'caf\udce9'")


def test_a_missing_folder_is_refused_with_those_that_are_there(messages, tmp_path):
    make(tmp_path, masks="labels")
    messages.refusal(lambda: Folder(tmp_path).split("train"), "masks/", "images, labels", "data.mask_folder")


def test_a_missing_root_is_refused(messages, tmp_path):
    messages.refusal(lambda: Folder(tmp_path / "gone"), "gone: ", "data.root")


def test_a_folder_without_images_is_refused(messages, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    messages.refusal(lambda: Folder(tmp_path).split("train"), "images: ", ".png")


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "set")
    assert len(Folder("~/set").split("train")) > 0


def test_sub_folders_split(tmp_path):
    make(tmp_path / "train", "abc")
    make(tmp_path / "val", "xa")  # a number may come in both: they are other files
    folder = Folder(tmp_path)
    assert folder.split("train").names == ["a", "b", "c"]
    assert folder.split("val").names == ["a", "x"]


@pytest.mark.parametrize(("there", "missing"), [("train", "val"), ("val", "train")])
def test_half_a_split_is_refused(messages, tmp_path, there, missing):
    make(tmp_path / "folders" / there)
    messages.refusal(lambda: Folder(tmp_path / "folders").split("train"), there, missing)
    make(tmp_path / "lists")
    (tmp_path / "lists" / f"{there}.txt").write_text("a\n")
    messages.refusal(lambda: Folder(tmp_path / "lists").split("train"), f"{there}.txt", f"{missing}.txt")


def test_folders_that_may_be_the_other_half_are_named(messages, tmp_path):
    for name in ("train", "dev", "test", "docs"):
        make(tmp_path / "set" / name, "a")
    messages.refusal(lambda: Folder(tmp_path / "set").split("train"), "dev, test", " val")
    (make(tmp_path / "lists", "a") / "val.txt").write_text("a\n")
    (tmp_path / "lists" / "Testing.txt").write_text("a\n")
    messages.refusal(lambda: Folder(tmp_path / "lists").split("train"), "Testing.txt", "train.txt")


def test_lists_split_and_other_files_are_let_be(tmp_path):
    make(tmp_path)
    (tmp_path / "masks" / "j.png").unlink()  # in no list
    (tmp_path / "train.txt").write_text("c\n\na.png \n", encoding="utf-8-sig")
    (tmp_path / "val.txt").write_text("b.tif\r\nd\r\n")
    folder = Folder(tmp_path)
    assert folder.split("train").names == ["a", "c"]
    assert folder.split("val").names == ["b", "d"]


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lists_of_any_common_encoding_are_read(tmp_path, encoding):
    make(tmp_path, ["müller_1", "b", "façade"])
    (tmp_path / "train.txt").write_text("müller_1.png\r\nfaçade\r\n", encoding=encoding)
    (tmp_path / "val.txt").write_text("b\n", encoding=encoding)
    assert Folder(tmp_path).split("train").names == ["façade", "müller_1"]
    assert Folder(tmp_path).split("val").names == ["b"]


@pytest.mark.parametrize(
    "line", ["/home/u/set/images/a.png", r"C:\data\images\a.png", "./images/a.jpg ./masks/a.png", "a.png,1"]
)
def test_lists_may_hold_paths_of_another_machine(tmp_path, line):
    make(tmp_path, "abc")
    (tmp_path / "train.txt").write_text(f"{line}\nb\n")
    (tmp_path / "val.txt").write_text("c\n")
    assert Folder(tmp_path).split("train").names == ["a", "b"]


def test_a_path_in_a_list_does_not_mean_a_file_of_another_sub_folder(messages, tmp_path):
    make(tmp_path, ["p/a", "q/a", "q/b"])
    (tmp_path / "train.txt").write_text("/data/images/p/a.png\n")
    (tmp_path / "val.txt").write_text("q/b.png\n")
    assert Folder(tmp_path, recursive=True).split("train").names == ["p/a"]
    (tmp_path / "val.txt").write_text("b.png\n")
    messages.refusal(lambda: Folder(tmp_path, recursive=True).split("train"), "val.txt: 1 of 1", "b.png")


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "val"), ("train", "valid"), ("train", "validation"), ("Train", "Val"), ("TRAIN", "val")],
)
@pytest.mark.parametrize("above", [True, False], ids=["val/images", "images/val"])
def test_folders_of_the_splits_may_have_other_common_names(tmp_path, train, val, above):
    for split, names in {train: "abc", val: "xy"}.items():
        for side in ("images", "masks"):
            folder = tmp_path / split / side if above else tmp_path / side / split
            for name in names:
                save(folder / f"{name}.png", MASK)
    assert Folder(tmp_path).split("train").names == ["a", "b", "c"]
    assert Folder(tmp_path).split("val").names == ["x", "y"]


def test_images_and_masks_may_spell_their_splits_differently(messages, tmp_path):
    for split, of_masks, names in (("Train", "train", "abc"), ("Val", "validation", "xy")):
        for name in names:
            save(tmp_path / "images" / split / f"{name}.png", MASK)
            save(tmp_path / "masks" / of_masks / f"{name}.png", MASK)
    assert Folder(tmp_path).split("train").names == ["a", "b", "c"]
    assert Folder(tmp_path).split("val").names == ["x", "y"]
    (tmp_path / "masks/validation").rename(tmp_path / "masks/val_set")
    messages.refusal(lambda: Folder(tmp_path).split("val"), "masks: has train but no val", "val_set")


@pytest.mark.parametrize("names", [("train_set", "val_set"), ("tRAIN", "vAL")])
def test_folders_that_may_be_splits_are_named(messages, tmp_path, names):
    for name in names:
        make(tmp_path / name, "ab")
    messages.refusal(lambda: Folder(tmp_path).split("val"), *names, "train/images/", "val/images/")


def test_two_folders_of_one_split_are_refused(messages, tmp_path):
    for name in ("train", "val", "valid"):
        make(tmp_path / name, "ab")
    messages.refusal(lambda: Folder(tmp_path).split("val"), "val and valid")


def test_lists_that_do_not_fit_are_refused(messages, tmp_path):
    make(tmp_path)

    def refused(train, val, *facts):
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "val.txt").write_text(val)
        messages.refusal(lambda: Folder(tmp_path).split("train"), *facts)

    refused("a\nq\nimages/k.png\n", "b\n", "train.txt: 2 of 3 ", ": q, images/k.png;")
    refused("a\nb\nc\n", "d\nb.png\na\n", "2 names", "train.txt", "val.txt", ": a, b;")
    refused("a\na.png\n", "b\n", "train.txt: 1 ", ": a")
    refused("a\n", "\n", "val.txt: ")
    (tmp_path / "masks" / "a.png").unlink()
    refused("a\n", "b\n", "masks/: a.")


def test_a_new_image_moves_no_other_one_to_another_split(tmp_path):
    make(tmp_path)
    before = {which: set(Folder(tmp_path).split(which).names) for which in ("train", "val")}
    assert before["train"] | before["val"] == set("abcdefghij")
    make(tmp_path, ["new1", "new2", "A"])
    for which, names in before.items():
        assert names <= set(Folder(tmp_path).split(which).names)


def test_the_split_takes_about_its_share_and_depends_on_the_seed(tmp_path, monkeypatch):
    pairs = [pairing.SampleFiles(f"image_{n}", tmp_path, (tmp_path,)) for n in range(2000)]
    monkeypatch.setattr("sam_ft.data.sources.folder.find_pairs", lambda *_: pairs)
    first, other = (Folder(tmp_path, val_fraction=0.2, seed=seed).split("val").names for seed in (0, 1))
    assert 340 < len(first) < 460
    assert 40 < len(set(first) & set(other)) < 130


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("val_fraction", [0.001, 0.2, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_each_split_has_an_image_where_there_are_two(tmp_path, count, val_fraction, seed):
    data = Folder(make(tmp_path, "abcdef"[:count]), val_fraction=val_fraction, seed=seed)
    train, val = data.split("train").names, data.split("val").names
    assert sorted(train + val) == list("abcdef"[:count])
    assert train
    assert val


def test_a_single_image_cannot_be_split(messages, tmp_path):
    data = Folder(make(tmp_path, "a"))
    facts = ["data.val_fraction=0.2", " 1 images"]
    assert messages.refusal(lambda: data.split("train"), *facts) == messages.refusal(lambda: data.split("val"))


def test_a_folder_that_is_only_to_be_scored_has_all_images_in_val(messages, tmp_path):
    make(tmp_path, "ab")
    data = Folder(tmp_path, val_fraction=1)
    assert data.split("val").names == ["a", "b"]
    messages.refusal(lambda: data.split("train"), "data.val_fraction=1", " train ")


def test_senseless_settings_are_refused(messages, tmp_path):
    messages.refusal(lambda: Folder(tmp_path, objects="cells"), "data.objects=cells", "whole, ")
    messages.refusal(lambda: Folder(tmp_path, val_fraction=20), "data.val_fraction=20;")
    messages.refusal(lambda: Folder(tmp_path).split("test"), "test", "train or val")


def test_an_area_below_zero_is_refused_by_all_data_sets(messages, tmp_path):
    make(tmp_path)
    (tmp_path / "t.csv").write_text("image,mask\nimages/a.png,masks/a.png\n")
    for act in (
        lambda: Folder(tmp_path, objects="components", min_area=-1),
        lambda: Table(tmp_path / "t.csv", min_area=-1),
        lambda: Coco(tmp_path, min_area=-1),
    ):
        messages.refusal(act, "data.min_area=-1;")


@pytest.mark.parametrize("side", ["images", "masks"])
def test_a_link_to_itself_is_refused_as_a_file_that_cannot_be_read(messages, tmp_path, side):
    make(tmp_path, "abcdef")
    path = tmp_path / side / "b.png"
    path.unlink()
    path.symlink_to("b.png")
    folder = Folder(tmp_path)

    def read():
        for split in (folder.split("train"), folder.split("val")):
            for number in range(len(split)):
                split[number]

    messages.refusal(read, path)
