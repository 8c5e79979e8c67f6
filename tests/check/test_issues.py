"""One issue does not hide another, in the check and in the survey before training."""

import os

import pytest

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text
from sam_ft.check.sample_sheet import draw_samples
from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.issues import Issue, summarize
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.prompts import Box
from sam_ft.utils.errors import DataError
from tests.check.test_check import IDS, cut, listed, noise, pairs
from tests.support.blobs import Blobs
from tests.support.files import save


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


def test_few_bad_files_are_warnings_where_they_are_skipped(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    cut(tmp_path / "train" / "images" / "a.png")
    assert check_dataset(Folder(tmp_path, objects="instances"), 1024).count("error") == 1
    found = check_dataset(Folder(tmp_path, objects="instances", on_bad="skip"), 1024)
    assert (found.count("error"), found.count("warning")) == (0, 1)
    messages.line(as_text(found), "a.png", "data.on_bad=skip")


def test_a_link_to_an_image_that_is_gone_is_one_issue(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    (tmp_path / "train" / "images" / "a.png").unlink()
    (tmp_path / "train" / "images" / "a.png").symlink_to(tmp_path / "gone.png")
    found = check_dataset(Folder(tmp_path, objects="instances"), 1024)
    assert found.count("error") == 1
    messages.line(as_text(found), "a.png", "no such file")


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


def test_the_first_look_of_training_says_what_is_wrong_with_both_splits(messages, tmp_path):
    pairs(tmp_path / "train", "a", "b")
    pairs(tmp_path / "val", "c")
    folder = Folder(tmp_path, objects="instances")
    for name in "ab":
        (mask := tmp_path / "train" / "masks" / f"{name}.png").unlink()
        save(mask.with_suffix(".jpg"), IDS)
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
