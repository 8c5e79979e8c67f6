import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text
from sam_ft.check.sample_sheet import draw_samples
from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.issues import Issue, summarize
from sam_ft.data.sources.table import Table
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.prompts import Box
from sam_ft.utils.errors import DataError
from tests.data.sources.test_coco import annotation, image
from tests.data.sources.test_coco import make as make_coco
from tests.support.blobs import Blobs
from tests.support.files import ORIENTATION, save

IDS = np.zeros((24, 32), np.uint8)
IDS[2:12, 4:14] = 1
IDS[14:20, 16:30] = 2  # 6 x 14


def noise(name):
    """A picture that no other name has."""
    return np.random.default_rng([ord(letter) for letter in name]).integers(0, 255, (24, 32, 3), np.uint8)


def pairs(folder, *names, ids=IDS):
    for name in names:
        save(folder / "images" / f"{name}.png", noise(name))
        save(folder / "masks" / f"{name}.png", ids)


def listed(text):
    """The issues of a report, without its tables."""
    return re.split("^(?=Errors|Warnings|Notes)", text, maxsplit=1, flags=re.MULTILINE)[1]


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def spoil(root):
    """train/ with an issue of each kind besides two sound pairs, and val/ with two more."""
    train, val = root / "train", root / "val"
    pairs(train, "fine", "twin", "lonely", "html", "empty", "other_size", "turned", "colored", "cut_png", "cut_mask")
    pairs(val, "sound", "leak", "halved")
    (train / "masks" / "lonely.png").unlink()
    save(train / "masks" / "extra.png", IDS)
    pairs(train, "double")
    save(train / "images" / "double.jpg", noise("double"))
    (train / "images" / "html.png").write_text("<html>404</html>")
    (train / "masks" / "empty.png").write_bytes(b"")
    cut(train / "images" / "cut_png.png")
    cut(train / "masks" / "cut_mask.png", 0.6)
    save(train / "images" / "cut_jpeg.jpg", noise("cut_jpeg"))
    save(train / "masks" / "cut_jpeg.png", IDS)
    cut(train / "images" / "cut_jpeg.jpg")
    save(train / "masks" / "other_size.png", IDS[::2, ::2])
    save(train / "masks" / "turned.png", IDS.T.copy())
    save(train / "masks" / "colored.png", noise("colors"))
    save(train / "images" / "lossy.png", noise("lossy"))
    save(train / "masks" / "lossy.jpg", IDS)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(train / "images" / "rotated.jpg", noise("rotated"), exif=exif)
    save(train / "masks" / "rotated.png", IDS)
    save(train / "images" / "copy_of_twin.png", noise("twin"))
    save(train / "masks" / "copy_of_twin.png", IDS)
    save(val / "images" / "leak.png", noise("fine"))
    save(val / "masks" / "halved.png", IDS[:12])


ISSUES = {  # file: a part of its problem
    "train/images/lonely.png": "mask",
    "train/masks/extra.png": "image",
    "double.jpg, double.png": "name",
    "train/masks/lossy.jpg": "JPEG",
    "train/masks/colored.png": "colors",
    "train/masks/other_size.png": "16 x 12 pixels but its image other_size.png is 32 x 24",
    "rotated.png": "32 x 24 pixels but its image rotated.jpg is 24 x 32",
    "turned.png": "24 x 32 pixels but its image turned.png is 32 x 24",
    "html.png": "(cannot identify image file)",
    "cut_png.png": "(image file is truncated",
    "cut_jpeg.jpg": "(",
    "empty.png": "(cannot identify image file)",
    "cut_mask.png": "(",
    "val/masks/halved.png": "32 x 12 pixels",
    "fine = leak": "train and in val",
}


def test_all_planted_issues_are_in_one_report(messages, tmp_path, cli):
    spoil(tmp_path / "set")
    output = tmp_path / "out"
    done = cli(
        "sam_ft.check",
        "data=folder",
        f"data.root={tmp_path / 'set'}",
        "data.objects=instances",
        f"output={output}",
    )
    assert done.code == 3
    assert "Traceback" not in done.err
    for file, fact in ISSUES.items():
        assert file in done.out, file
        assert fact in done.out, fact
    messages.check(listed(done.out))
    report = json.loads((output / "report.json").read_text())
    errors = {issue["name"] for issue in report["issues"] if issue["level"] == "error"}
    # double: its two images; copy_of_twin is only warned of
    names = {file.rpartition("/")[2] for file in ISSUES} - {"double.jpg, double.png"} | {"double.jpg", "double.png"}
    assert errors == names
    assert report["errors"] == len(names) == 16
    assert [issue["name"] for issue in report["issues"] if issue["level"] == "warning"] == ["copy_of_twin = twin"]
    # fine, twin and its copy in train; sound and leak in val; two objects each
    assert {name: (own["pairs"], own["usable"], own["objects"]) for name, own in report["splits"].items()} == {
        "train": (13, 3, 6),
        "val": (3, 2, 4),
    }
    messages.line(done.out, "16 errors, 1 warning")
    with Image.open(output / "samples.png") as sheet:
        assert sheet.width > 1500


def test_a_sound_folder_has_no_errors_and_a_sheet(messages, blobs, tmp_path, cli):
    done = cli(
        "sam_ft.check",
        *("data=folder", f"data.root={blobs}", "data.objects=instances", "data.mask_folder=instances"),
        *(f"output={tmp_path}", "model=lite_medsam", "prompt@train_prompt=mixed"),
    )
    assert (done.code, done.err) == (0, "")
    messages.line(done.out, "pixels", " 256")
    messages.line(done.out, "no errors, no warnings")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"]["train"]["objects"] == 2 + 3 + 0 + 4 + 1 + 5
    assert report["splits"]["train"]["empty"] == ["blobs_2"]
    assert [(issue["level"], issue["name"]) for issue in report["issues"]] == [("note", "blobs_2")]
    assert (tmp_path / "samples.png").is_file()


def test_many_files_with_one_issue_do_not_hide_the_others(messages, tmp_path):
    names = [f"n{number:02d}" for number in range(30)]
    pairs(tmp_path / "train", *names, "odd")
    pairs(tmp_path / "val", "v")
    for place, name in enumerate(names):
        save(tmp_path / "train" / "masks" / f"{name}.png", IDS[: 10 + place % 3])
    save(tmp_path / "train" / "masks" / "odd.png", noise("x"))
    text = as_text(check_dataset(Folder(tmp_path, objects="instances"), 1024))
    messages.check(
        listed(text),
        f"30 files in {tmp_path}/train/masks:",
        "n00.png is 32 x 24\n",
        "n09.png",
        "20 more\n",
        "odd.png: ",
    )
    assert "n10.png" not in text
    assert text.count("resave the mask at") == 1  # the advice for all 30


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


def test_few_bad_files_are_warnings_where_they_are_skipped(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    cut(tmp_path / "train" / "images" / "a.png")
    assert check_dataset(Folder(tmp_path, objects="instances"), 1024).count("error") == 1
    found = check_dataset(Folder(tmp_path, objects="instances", on_bad="skip"), 1024)
    assert (found.count("error"), found.count("warning")) == (0, 1)
    messages.line(as_text(found), "a.png", "data.on_bad=skip")


def test_a_split_that_cannot_be_opened_does_not_hide_the_other(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    cut(tmp_path / "train" / "images" / "a.png")
    (tmp_path / "val" / "images").mkdir(parents=True)
    text = as_text(check_dataset(Folder(tmp_path, objects="instances"), 1024))
    messages.check(listed(text), f"[val] {tmp_path}/val: ", "masks/", ": images.", "a.png: ")


def test_files_that_are_not_read_and_contradicting_lists_are_noted(messages, tmp_path):
    pairs(tmp_path, "a", "b", "c", "é")
    (tmp_path / "images" / "deep").mkdir()
    (tmp_path / "masks" / "a.json").write_bytes(b"")
    (tmp_path / "masks" / ".hidden").write_bytes(b"")
    (tmp_path / "train.txt").write_text("a\na\nb\ngone")
    (tmp_path / "val.txt").write_text("b")
    found = check_dataset(Folder(tmp_path, objects="instances"), 1024)
    assert [(issue.level, issue.name) for issue in found.issues] == [
        ("error", "gone"),  # in train.txt alone
        ("error", "a"),  # twice in train.txt
        ("error", "b"),  # in both lists
        ("note", "c"),  # in neither list
        ("note", "é"),
        ("note", "deep"),  # a folder
        ("note", "a.json"),
        ("error", "b = b"),  # the same pixels in both splits
    ]
    messages.check("\n".join(issue.problem for issue in found.issues), "train.txt", "val.txt")
    assert [len(part.usable) for part in found.splits.values()] == [2, 1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_not_utf8_is_reported_and_can_be_printed(tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    for folder in ("images", "masks"):
        try:
            os.rename(tmp_path / "train" / folder / "a.png", os.fsencode(tmp_path / "train" / folder) + b"/caf\xe9.png")
        except OSError:
            pytest.skip("this file system allows UTF-8 names only")
    found = check_dataset(Folder(tmp_path, objects="instances"), 1024)
    assert [(issue.name, issue.problem) for issue in found.issues] == [
        (r"'caf\udce9.png'", "has a name that is not valid UTF-8")
    ] * 2
    assert found.splits["train"].split.names == ["b"]
    as_text(found).encode()


def test_a_data_set_that_only_knows_its_samples_is_read_as_well(tmp_path):
    class Own:
        def split(self, name):
            if name == "val":
                raise DataError("/data/val: is gone; fetch it")
            return Broken([1, 2, 3])

    class Broken(Blobs):
        def __getitem__(self, index):
            if index == 1:
                raise DataError("/data/blobs_1: is odd; mend it")
            return super().__getitem__(index)

    found = check_dataset(Own(), 1024)
    assert [str(issue.location) for issue in found.issues] == ["/data/blobs_1", "/data/val"]
    assert (found.splits["train"].usable, len(found.splits["train"].box_sides)) == ([0, 2], 1 + 3)
    assert draw_samples(tmp_path / "sheet.png", found, Box())
    text = as_text(found)
    assert "[train] /data/blobs_1: is odd; mend it" in text
    assert "\nval        -       -      -        -\n" in text


def test_a_folder_without_any_objects_is_an_error(messages, tmp_path):
    pairs(tmp_path / "train", "a", ids=IDS * 0)
    pairs(tmp_path / "val", "b")
    text = as_text(check_dataset(Folder(tmp_path), 1024))
    messages.line(text, "[train] train: ", "no objects")


def test_bad_lines_of_a_table_are_listed_with_the_issues_of_the_others(messages, tmp_path):
    pairs(tmp_path, "a", "b", "c")
    cut(tmp_path / "masks" / "a.png", 0)
    lines = [
        "images/a.png,masks/a.png,train",
        "images/b.png,masks/b.png,train",
        "images/c.png,masks/c.png,val",
        *(f"images/gone{number}.png,masks/a.png,val" for number in range(12)),
        "images/c.png,masks/b.png,tset",
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["image,mask,split", *lines]))
    found = check_dataset(Table(table, objects="instances"), 1024)
    text = as_text(found)
    messages.check(
        listed(text),
        f"12 lines in {table}:\n",
        "5: ",
        "images/gone0.png",
        "tset; expected train, val or test",
        "a.png: ",
    )
    assert [len(part.usable) for part in found.splits.values()] == [1, 1]


def test_a_damaged_image_with_masks_of_two_sizes_is_one_issue(messages, tmp_path):
    pairs(tmp_path, "a", "b", "c")
    (tmp_path / "images/a.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:60])
    save(tmp_path / "masks/c.png", IDS[:20])  # its size cannot be compared with that of the image
    table = tmp_path / "table.csv"
    table.write_text(
        "image,mask,split\nimages/a.png,masks/a.png,train\nimages/a.png,masks/c.png,train\n"
        "images/b.png,masks/b.png,train\nimages/c.png,masks/b.png,val\n"
    )
    found = check_dataset(Table(table, objects="instances"), 1024)
    messages.check(listed(as_text(found)), f"[train] {tmp_path}/images/a.png: ")
    assert [issue.level for issue in found.issues] == ["error"]


def test_columns_that_are_not_read_are_noted(messages, tmp_path):
    pairs(tmp_path, "a", "b")
    table = tmp_path / "table.csv"
    table.write_text("image,mask,split,fold\nimages/a.png,masks/a.png,train,1\nimages/b.png,masks/b.png,val,2\n")
    found = check_dataset(Table(table, objects="instances"), 1024)
    assert [issue.level for issue in found.issues] == ["note"]
    messages.check(listed(as_text(found)), f"Notes\n  [train, val] {table}: ", ": fold;")


def test_what_coco_cannot_use_is_listed_with_damaged_images(messages, tmp_path, cli):
    annotations = [annotation(1), annotation(2, category=99), *(annotation(n, segmentation=[]) for n in range(3, 15))]
    make_coco(tmp_path, annotations, [image(1), image(2)])
    make_coco(tmp_path / "other", annotations[:1], [image(1), image(2)])
    (tmp_path / "other/train/001.png").write_bytes(b"")
    place = ["data=coco", f"data.root={tmp_path}", "data.val=other/train.json", "data.val_images=other/train"]
    done = cli("sam_ft.check", *place, f"output={tmp_path / 'out'}")
    assert done.code == 3
    assert f"1 annotation in {tmp_path}/train.json: 2 (99)" in done.out
    assert f"12 annotations in {tmp_path}/train.json: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more" in done.out
    messages.line(done.out, f"[val] {tmp_path}/other/train/001.png: ")
    assert (tmp_path / "out/samples.png").is_file()  # of the usable samples, though training would not start


def test_the_first_look_of_training_says_what_is_wrong_with_both_splits(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    folder = Folder(tmp_path, objects="instances")
    for name in "ab":
        (tmp_path / "train" / "masks" / f"{name}.png").rename(tmp_path / "train" / "masks" / f"{name}.jpg")
    (tmp_path / "val" / "masks" / "c.png").write_bytes(b"")
    first, files, third, hint = messages.refusal(lambda: survey_splits(*open_splits(folder))).split("\n")
    assert first.startswith("JPEG")
    assert files == f"  2 files in {tmp_path}/train/masks: a.jpg, b.jpg"
    assert third.startswith(f"{tmp_path}/val/masks/c.png: ")
    assert "sam-ft check" in hint
    (tmp_path / "train" / "masks" / "a.jpg").unlink()
    (tmp_path / "val" / "masks" / "c.png").unlink()
    messages.refusal(lambda: survey_splits(*open_splits(folder)), "masks/: a", "masks/: c")


def test_names_with_one_issue_share_a_paragraph_and_other_places_have_their_own():
    issues = [Issue("x", name, "is odd", "mend it") for name in "ab"]
    assert summarize(issues) == "is odd; mend it\n  2 files in x: a, b"
    assert summarize([*issues, Issue("y", "c", "is odd", "mend it")]).endswith("\ny/c: is odd; mend it")
    assert summarize([Issue("x", "a", "is 3", "mend it"), Issue("x", "b", "is 4", "mend it")]) == (
        "mend it\n  2 files in x:\n    a: is 3\n    b: is 4"
    )


@pytest.mark.parametrize("value", ["0", "x", "1.5"])
def test_an_input_side_that_is_no_size_is_refused(messages, cli, value):
    done = cli("sam_ft.check", f"input_side={value}")
    messages.refused(done, 2, f"input_side={value};", "at least 1")
