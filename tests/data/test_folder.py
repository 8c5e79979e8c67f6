import logging
import os
import pickle
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data import pairing
from sam_ft.data.folder import Folder
from sam_ft.data.objects import components, instances
from sam_ft.errors import ConfigError, DataError

MASK = np.zeros((6, 8), np.uint8)
MASK[1:3, 1:4] = 255  # 6 pixels
MASK[4:6, 5:8] = 255  # 6 pixels
MASK[0, 7] = 255  # 1 pixel
IDS = np.where(MASK, np.arange(8, dtype=np.uint8) // 4 + 1, 0).astype(np.uint16) * 300


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def make(root, names="abcdefghij", mask=MASK, suffix="png", masks="masks", **options):
    for name in names:
        save(root / "images" / f"{name}.png", np.full((6, 8, 3), ord(name[0]), np.uint8))
        save(root / masks / f"{name}.{suffix}", mask, **options)
    return root


def refusal(act):
    with pytest.raises((DataError, ConfigError)) as caught:
        act()
    return str(caught.value)


def test_a_sample_holds_image_and_mask_of_one_name(tmp_path):
    split = Folder(make(tmp_path)).split("train")
    sample = split[2]
    assert sample.name == split.names[2]
    assert sample.image.shape == (3, 6, 8)
    assert sample.image.dtype == torch.uint8
    assert sample.image.unique().tolist() == [ord(sample.name)]
    assert sample.original_size == (6, 8)
    assert torch.equal(sample.masks, torch.from_numpy(MASK > 0)[None])
    assert sample.labels.tolist() == [1]
    assert sample.object_ids.tolist() == [0]


def test_components_are_objects_and_specks_are_dropped(tmp_path):
    make(tmp_path)
    sample = Folder(tmp_path, objects="components", min_area=2).split("train")[0]
    assert sample.masks.sum((1, 2)).tolist() == [6, 6]
    assert sample.masks[0, 1, 1]
    assert sample.masks[1, 5, 7]
    assert len(Folder(tmp_path, objects="components", min_area=1).split("train")[0].masks) == 3
    assert len(Folder(tmp_path, objects="components", min_area=7).split("train")[0].masks) == 0


def test_pixels_that_touch_at_a_corner_are_one_component():
    masks, labels = instances(components(np.eye(3, dtype=bool), min_area=1))
    assert masks.shape == (1, 3, 3)
    assert labels.tolist() == [1]


def test_instance_ids_are_objects_and_labels(tmp_path):
    make(tmp_path, mask=IDS, masks="ids")
    sample = Folder(tmp_path, mask_folder="ids", objects="instances").split("val")[0]
    assert sample.labels.tolist() == [300, 600]
    assert torch.equal(sample.masks[1], torch.from_numpy(IDS == 600))
    assert sample.object_ids.tolist() == [0, 1]


@pytest.mark.parametrize("objects", ["whole", "components", "instances"])
def test_an_empty_mask_is_an_image_without_objects(tmp_path, objects):
    sample = Folder(make(tmp_path, mask=MASK * 0), objects=objects).split("train")[0]
    assert sample.masks.shape == (0, 6, 8)
    assert sample.labels.shape == sample.object_ids.shape == (0,)
    assert sample.masks.dtype == torch.bool
    assert sample.labels.dtype == torch.int64


def test_two_hundred_objects_of_a_large_image_are_cut_quickly():
    ids = np.kron(np.arange(225, dtype=np.uint16).reshape(15, 15), np.ones((84, 84), np.uint16))
    start = time.process_time()
    masks, labels = instances(ids)
    assert time.process_time() - start < 2
    assert masks.shape == (224, 1260, 1260)
    assert labels.tolist() == list(range(1, 225))
    assert (masks.sum((1, 2)) == 84 * 84).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500)])
def test_tiny_and_thin_images_are_read(tmp_path, size):
    for name in "abcdef":
        save(tmp_path / "images" / f"{name}.png", np.zeros(size, np.uint8))
        save(tmp_path / "masks" / f"{name}.png", np.full(size, 255, np.uint8))
    assert Folder(tmp_path, val_fraction=0.5).split("train")[0].masks.shape == (1, *size)


def test_files_pair_by_stem_whatever_the_suffix(tmp_path):
    suffixes = ["png", "JPG", "jpeg", "bmp", "tif", "TIFF", "webp", "gif"]
    for number, suffix in enumerate(suffixes):
        save(tmp_path / "images" / f"n{number}.v1.{suffix}", MASK)
        save(tmp_path / "masks" / f"n{number}.v1.{suffixes[-number - 1]}", MASK)
    for hidden in (".DS_Store", "._n0.v1.png", ".n0.v1.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "images" / hidden).write_text("no image")
    folder = Folder(tmp_path, val_fraction=0.4)
    assert sorted(folder.split("train").names + folder.split("val").names) == [f"n{n}.v1" for n in range(8)]


def test_all_that_does_not_pair_is_listed_in_one_error(tmp_path):
    make(tmp_path)
    (tmp_path / "masks" / "b.png").unlink()
    save(tmp_path / "masks" / "extra.png", MASK)
    save(tmp_path / "images" / "c.jpg", MASK)
    save(tmp_path / "masks" / "d.bmp", MASK)
    message = refusal(lambda: Folder(tmp_path).split("train"))
    assert "1 without a mask in masks/: b;" in message
    assert "1 without an image in images/: extra;" in message
    assert "4 with several files of that name: c.jpg, c.png, d.bmp, d.png." in message


def test_a_long_list_is_cut_after_ten_names(tmp_path):
    for number in range(14):
        save(tmp_path / "images" / f"{number:02d}.png", MASK)
    (tmp_path / "masks").mkdir()
    message = refusal(lambda: Folder(tmp_path).split("train"))
    assert "14 without a mask in masks/: 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 4 more." in message


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_utf8_is_listed(tmp_path):
    make(tmp_path)
    for folder in ("images", "masks"):
        try:
            os.rename(tmp_path / folder / "a.png", os.fsencode(tmp_path / folder) + b"/caf\xe9.png")
        except OSError:
            pytest.skip("this file system allows UTF-8 names only")
    message = refusal(lambda: Folder(tmp_path).split("train"))
    assert r"1 whose name is not valid UTF-8: 'caf\udce9'" in message


def test_a_missing_folder_is_refused_with_those_that_are_there(tmp_path):
    make(tmp_path, masks="labels")
    message = refusal(lambda: Folder(tmp_path).split("train"))
    assert "has no folder masks/; the folders there are: images, labels." in message
    assert "data.mask_folder" in message


def test_a_missing_root_is_refused(tmp_path):
    assert "gone: is not a folder; set data.root" in refusal(lambda: Folder(tmp_path / "gone"))


def test_a_folder_without_images_is_refused(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    assert "images: holds no images; expected files of .png" in refusal(lambda: Folder(tmp_path).split("train"))


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
def test_half_a_split_is_refused(tmp_path, there, missing):
    make(tmp_path / "folders" / there)
    assert f"has {there} but no {missing}; " in refusal(lambda: Folder(tmp_path / "folders").split("train"))
    make(tmp_path / "lists")
    (tmp_path / "lists" / f"{there}.txt").write_text("a\n")
    assert f"has {there}.txt but no {missing}.txt; " in refusal(lambda: Folder(tmp_path / "lists").split("train"))


def test_lists_split_and_other_files_are_let_be(tmp_path):
    make(tmp_path)
    (tmp_path / "masks" / "j.png").unlink()  # in no list
    (tmp_path / "train.txt").write_text("c\n\na.png \n", encoding="utf-8-sig")
    (tmp_path / "val.txt").write_text("b.tif\r\nd\r\n")
    folder = Folder(tmp_path)
    assert folder.split("train").names == ["a", "c"]
    assert folder.split("val").names == ["b", "d"]


def test_lists_that_do_not_fit_are_refused(tmp_path):
    make(tmp_path)

    def lists(train, val):
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "val.txt").write_text(val)
        return refusal(lambda: Folder(tmp_path).split("train"))

    assert "train.txt: 2 of 3 names have neither an image nor a mask: q, images/b;" in lists("a\nq\nimages/b\n", "b\n")
    assert "2 names are in train.txt and in val.txt: a, b;" in lists("a\nb\nc\n", "d\nb.png\na\n")
    assert "train.txt: 1 names are there more than once: a" in lists("a\na.png\n", "b\n")
    assert "val.txt: is empty" in lists("a\n", "\n")
    (tmp_path / "masks" / "a.png").unlink()
    assert "1 without a mask in masks/: a." in lists("a\n", "b\n")


def test_a_new_image_moves_no_other_one_to_another_split(tmp_path):
    make(tmp_path)
    before = {which: set(Folder(tmp_path).split(which).names) for which in ("train", "val")}
    assert before["train"] | before["val"] == set("abcdefghij")
    make(tmp_path, ["new1", "new2", "A"])
    for which, names in before.items():
        assert names <= set(Folder(tmp_path).split(which).names)


def test_the_split_takes_about_its_share_and_depends_on_the_seed(tmp_path, monkeypatch):
    pairs = [pairing.Pair(f"image_{n}", tmp_path, tmp_path) for n in range(2000)]
    monkeypatch.setattr("sam_ft.data.folder.find_pairs", lambda *_: pairs)
    first, other = (Folder(tmp_path, val_fraction=0.2, seed=seed).split("val").names for seed in (0, 1))
    assert 340 < len(first) < 460
    assert 40 < len(set(first) & set(other)) < 130


def test_a_split_that_leaves_one_side_empty_is_refused(tmp_path):
    make(tmp_path, "ab")
    message = refusal(lambda: Folder(tmp_path, val_fraction=0.001).split("train"))
    assert "data.val_fraction=0.001 leaves val without any of the 2 images; change" in message
    assert message == refusal(lambda: Folder(tmp_path, val_fraction=0.001).split("val"))
    assert "leaves train without" in refusal(lambda: Folder(tmp_path, val_fraction=0.999).split("val"))


def test_senseless_settings_are_refused(tmp_path):
    assert "data.objects=cells is not known; expected one of whole, " in refusal(
        lambda: Folder(tmp_path, objects="cells")
    )
    assert "data.val_fraction=20; expected" in refusal(lambda: Folder(tmp_path, val_fraction=20))
    assert "split test is not known; expected train or val" in refusal(lambda: Folder(tmp_path).split("test"))


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    make(tmp_path)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"broken")
    split = Folder(tmp_path).split("train")
    assert "cannot be read" in refusal(lambda: split[0])


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    split = Folder(make(tmp_path, mask=np.zeros((3, 4), np.uint8))).split("train")
    message = refusal(lambda: split[0])
    assert re.search(r"masks/\w\.png: the mask is 4 x 3 pixels but its image \w\.png is 8 x 6; resave", message)


def test_a_transposed_mask_has_its_own_hint(tmp_path):
    split = Folder(make(tmp_path, mask=MASK.T.copy())).split("train")
    assert "the mask is 6 x 8 pixels but its image" in refusal(lambda: split[0])
    assert "looks turned by 90 degrees: check the EXIF orientation" in refusal(lambda: split[0])


def test_lossy_masks_are_told_once(tmp_path, caplog):
    split = Folder(make(tmp_path, mask=np.kron(MASK, np.ones((1, 1), np.uint8)), suffix="jpg", quality=80)).split(
        "train"
    )
    with caplog.at_level(logging.WARNING, "sam_ft"):
        masks = [split[index].masks for index in range(len(split))]
    assert len(caplog.messages) == 1
    assert re.search(r"\w\.jpg is lossy: grey edges.*cut at half", caplog.messages[0])
    assert torch.equal(masks[0][0], torch.from_numpy(MASK > 0))


def test_a_survey_counts_objects_empty_images_and_lossy_masks(tmp_path, caplog):
    make(tmp_path, "abc")
    make(tmp_path, "de", mask=MASK * 0)
    make(tmp_path, "fgh", suffix="jpg", quality=80)
    (tmp_path / "train.txt").write_text("a\nb\nd\ne\nf\ng\nh")
    (tmp_path / "val.txt").write_text("c")
    split = Folder(tmp_path, objects="components", min_area=2).split("train")
    with caplog.at_level(logging.WARNING, "sam_ft"):
        survey = split.survey()
        pickle.loads(pickle.dumps(split))[4]  # a worker's copy knows that it was told
    assert (survey.images, survey.objects, survey.empty, survey.lossy) == (7, 10, ["d", "e"], 3)
    assert len(caplog.messages) == 1
    assert "3 of 7 masks are lossy, first" in caplog.messages[0]
    assert "f.jpg: grey edges" in caplog.messages[0]


def test_a_survey_lists_all_files_that_cannot_be_used(tmp_path):
    make(tmp_path)
    (tmp_path / "train.txt").write_text("a\nb\nc\nd")
    (tmp_path / "val.txt").write_text("e")
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    save(tmp_path / "masks" / "b.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    save(tmp_path / "masks" / "c.png", MASK.T.copy())
    first, second, third = refusal(Folder(tmp_path).split("train").survey).split("\n")
    assert "a.png: cannot be read" in first
    assert "b.png: the mask has the values 0, 1, 2" in second
    assert "c.png: the mask is 6 x 8 pixels" in third
