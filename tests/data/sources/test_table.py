"""Rows of a table become samples, splits and classes."""

import logging

import numpy as np
import pytest
import torch

from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.table import Table
from sam_ft.types import dense
from sam_ft.utils.errors import ConfigError
from tests.support.files import MASK, make, save

PARTS = {"top": np.where(np.arange(6)[:, None] < 3, MASK, 0), "bottom": np.where(np.arange(6)[:, None] < 3, 0, MASK)}


def write(root, *lines, name="table.csv", **options):
    path = root / name
    path.write_text("\n".join(lines) + "\n", **options)
    return path


def rows(names, split=None):
    return [f"images/{name}.png,masks/{name}.png" + ("" if split is None else f",{split}") for name in names]


def parts(root):
    """An image a with a mask for each half, and an image b with one for the top half."""
    for name in "ab":
        save(root / "images" / f"{name}.png", np.full((6, 8), ord(name), np.uint8))
    for name, mask in PARTS.items():
        save(root / "masks" / f"{name}.png", mask.astype(np.uint8))
    return root


def same(one, other):
    pairs = ((one.image, other.image), (dense(one.masks), dense(other.masks)))
    return one.name == other.name and all(torch.equal(*pair) for pair in pairs)


def test_a_table_holds_the_same_samples_as_a_folder(tmp_path):
    make(tmp_path)
    table = write(tmp_path, "image,mask,split", *rows("abc", "train"), *rows("de", "val"))
    (tmp_path / "train.txt").write_text("a\nb\nc")
    (tmp_path / "val.txt").write_text("d\ne")
    for split in ("train", "val"):
        own, folder = Table(table).split(split), Folder(tmp_path).split(split)
        assert own.names == folder.names
        assert all(same(one, other) for one, other in zip(own, folder, strict=True))
        assert own.survey() == folder.survey()


def test_without_a_split_column_a_share_is_drawn_as_in_a_folder(messages, tmp_path):
    make(tmp_path)
    table = write(tmp_path, "image,mask", *rows("abcdefghij"))
    for seed in (0, 1):
        own = Table(table, val_fraction=0.5, seed=seed).split("val")
        folder = Folder(tmp_path, val_fraction=0.5, seed=seed).split("val")
        assert own.names == folder.names
    assert len(Table(table, val_fraction=0.0001).split("val")) == 1
    facts = ["table.csv: ", "data.val_fraction=1", " train ", "10 images"]
    messages.refusal(lambda: Table(table, val_fraction=1).split("train"), *facts)


def test_other_columns_may_be_named_and_the_rest_is_let_be(tmp_path):
    make(tmp_path, "ab")
    table = write(
        tmp_path,
        "who,file,truth,part,label of mine",
        "me,images/a.png,masks/a.png,train,cell",
        "you,images/b.png,masks/b.png,val,cell",
    )
    options = {"image_column": "file", "mask_column": "truth", "split_column": "part", "label_column": "label of mine"}
    split = Table(table, **options).split("train")
    assert (split.names, split.classes) == (["a"], {1: "cell"})


def test_rows_of_one_image_are_one_sample_with_labels(tmp_path):
    table = write(
        parts(tmp_path),
        "image,mask,split,label",
        "images/a.png,masks/top.png,train,weed",
        "images/b.png,masks/top.png,val,weed",
        "images/./a.png,masks/bottom.png,train,crop",
    )
    split = Table(table).split("train")
    assert split.names == ["a"]
    sample = split[0]
    assert sample.labels.tolist() == [2, 1]
    assert torch.equal(dense(sample.masks), torch.from_numpy(np.stack([PARTS["top"], PARTS["bottom"]]) > 0))
    assert sample.object_index.tolist() == [0, 1]
    assert split.classes == Table(table).split("val").classes == {1: "crop", 2: "weed"}
    split = Table(table, objects="components", min_area=1, classes={"weed": 7, "crop": 3, "tree": 1}).split("train")
    assert split[0].labels.tolist() == [7, 7, 3]
    assert split.classes == {7: "weed", 3: "crop", 1: "tree"}
    assert split.survey().objects == 3


def test_rows_of_one_image_without_labels_number_their_objects(tmp_path):
    lines = [
        "images/a.png,masks/top.png,train",
        "images/a.png,masks/bottom.png,train",
        "images/b.png,masks/top.png,val",
    ]
    sample = Table(write(parts(tmp_path), "image,mask,split", *lines)).split("train")[0]
    assert sample.labels.tolist() == [1, 2]


def test_what_one_mask_ignores_may_be_an_object_of_another(tmp_path):
    parts(tmp_path)
    save(tmp_path / "masks" / "void.png", np.where(PARTS["top"], 9, np.where(PARTS["bottom"], 9, 0)).astype(np.uint8))
    lines = ["images/a.png,masks/top.png,train", "images/a.png,masks/void.png,train", "images/b.png,masks/top.png,val"]
    sample = Table(write(tmp_path, "image,mask,split", *lines), ignore_index=9).split("train")[0]
    assert len(sample.masks) == 1
    assert torch.equal(sample.ignore, torch.from_numpy(PARTS["bottom"] > 0))


def test_masks_may_hold_the_classes(messages, tmp_path):
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png", MASK)
        save(tmp_path / "masks" / f"{name}.png", MASK // 255 * np.array([1] * 5 + [2] * 3, np.uint8))
    lines = [*rows("a", "train"), *rows("b", "val")]
    split = Table(write(tmp_path, "image,mask,split", *lines), objects="classes", classes={"x": 1, "y": 2}).split(
        "train"
    )
    assert split[0].labels.tolist() == [1, 2]
    assert split.classes == {1: "x", 2: "y"}
    path = tmp_path / "table.csv"
    line = "'data.classes={class_1: 1, class_2: 2}'"
    messages.refusal(lambda: Table(path, objects="classes").split("train"), line)
    write(tmp_path, "image,mask,label", *rows("ab", "cell"))
    with messages.raises(ConfigError, "label", "data.objects=classes"):
        Table(path, objects="classes", classes={"x": 1})
    with messages.raises(ConfigError, "data.classes ", "cell [1, 2, 3]", "label"):
        Table(path, classes={"cell": [1, 2, 3]})


def test_a_stem_that_is_there_twice_makes_way_for_the_path(tmp_path):
    for folder in ("bear", "camel"):
        for name in ("0", "1" if folder == "bear" else "2"):
            save(tmp_path / folder / f"{name}.png", MASK)
    save(tmp_path / "m.png", MASK)
    lines = [f"{path},m.png" for path in ("bear/0.png", "bear/1.png", "camel/0.png", "camel/2.png")]
    table = Table(write(tmp_path, "image,mask,split", *(f"{line},train" for line in lines)))
    assert table.split("train").names == ["bear/0.png", "1", "camel/0.png", "2"]


def test_other_names_of_the_splits_are_read_and_test_is_left_alone(messages, tmp_path, caplog):
    make(tmp_path, "abcd")
    lines = [*rows("a", "Training"), *rows("b", "valid"), *rows("c", "VAL"), *rows("d", "test"), "gone.png,,Testing"]
    table = write(tmp_path, "image,mask,split", *lines)
    caplog.set_level("INFO", "sam_ft")
    assert [Table(table).split(name).names for name in ("train", "val")] == [["a"], ["b", "c"]]
    messages.logged(caplog, f"{table}: ", "2 rows", "test")
    issues = []
    Table(table).usable_split("train", issues)
    assert [issue.level for issue in issues] == ["note"]


@pytest.mark.parametrize(
    ("above", "delimiter"),
    [("sep=;", ";"), ('"sep=,"', ","), ("SEP=\t", "\t"), ("sep=|", "|"), ("sep=;;;", ";"), ("", ","), ("sep=;", ", ")],
)
@pytest.mark.parametrize("name", ["table.csv", "table.tsv"])
def test_a_line_that_names_the_delimiter_is_no_header(messages, tmp_path, above, delimiter, name):
    if name == "table.tsv" and above == "":
        delimiter = "\t"
    make(tmp_path, "ab")
    lines = ['"image","mask","split"', *rows("a", "train"), *rows("b", "val")]
    lines = [line.replace(",", delimiter) for line in lines]
    table = write(tmp_path, above, *lines, name=name, encoding="utf-16")
    assert Table(table).split("train").names == ["a"]
    assert Table(table).split("val").names == ["b"]
    (tmp_path / "masks" / "b.png").unlink()
    messages.refusal(lambda: Table(table).split("train"), f"{name}: ", "line 4: ", "masks/b.png")


def test_labels_that_differ_only_in_case_or_spaces_are_warned_of(messages, tmp_path, caplog):
    make(tmp_path, "abc")
    lines = [f"{row},{label}" for row, label in zip(rows("abc"), ["cell", "Cell", "dog"], strict=True)]
    table = write(tmp_path, "image,mask,label", *lines)
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        Table(table).split("train")
    messages.logged(caplog, "table.csv", "'Cell', 'cell'")
