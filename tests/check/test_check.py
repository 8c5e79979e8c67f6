"""The command: its report, its sheet of samples and its exit code."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.sources.test_coco import annotation, image
from tests.data.sources.test_coco import make as make_coco
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
    "html.png": "web page",
    "cut_png.png": "(image file is truncated",
    "cut_jpeg.jpg": "(",
    "empty.png": "is empty",
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


@pytest.mark.parametrize("value", ["0", "x", "1.5"])
def test_an_input_side_that_is_no_size_is_refused(messages, cli, value):
    done = cli("sam_ft.check", f"input_side={value}")
    messages.refused(done, 2, f"input_side={value};", "at least 1")
