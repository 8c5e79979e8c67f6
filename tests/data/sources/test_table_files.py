"""Tables as programs write them, and the files that their paths lead to."""

import os

import numpy as np
import pytest

from sam_ft.data.sources.table import Table
from tests.data.sources.test_table import rows, write
from tests.support.files import make, save


@pytest.mark.parametrize(
    ("name", "between", "options"),
    [
        ("t.csv", ",", {}),
        ("t.csv", ";", {}),
        ("t.csv", "\t", {}),
        ("t.csv", "|", {}),
        ("t.tsv", "\t", {}),
        ("t.TSV", "\t", {}),
        ("t.csv", ";", {"encoding": "utf-8-sig"}),
        ("t.csv", ",", {"newline": "\r\n"}),
        ("t.csv", ";", {"encoding": "utf-16"}),
        ("t.csv", ",", {"encoding": "utf-16-le"}),
        ("t.csv", ",", {"encoding": "cp1252"}),
    ],
)
def test_separators_byte_order_marks_and_line_ends(tmp_path, name, between, options):
    make(tmp_path, "aü")
    lines = ["image,mask,split", *rows("a", "train"), "", *rows("ü", "val")]
    options = {"encoding": "utf-8", **options}
    table = write(tmp_path, *(line.replace(",", between) for line in lines), name=name, **options)
    assert Table(table).split("val").names == ["ü"]


def test_names_with_commas_spaces_and_signs_are_quoted(tmp_path):
    names = ["a,b", "c d", "e=f#g", 'h"i', "ü"]
    make(tmp_path, names)
    quoted = ['"images/{0}.png","masks/{0}.png",train'.format(name.replace('"', '""')) for name in names]
    table = write(tmp_path, "image,mask,split", *quoted, encoding="utf-8")
    assert Table(table).split("train").names == names
    assert len(Table(table).split("train")[0].masks) == 1


def test_paths_are_relative_to_the_table_or_absolute(tmp_path, monkeypatch):
    make(tmp_path / "data", "ab")
    (tmp_path / "tables").mkdir()
    lines = ["image,mask,split", "../data/images/a.png,../data/masks/a.png,train"]
    lines.append(f"{tmp_path}/data/images/b.png,~/data/masks/b.png,val")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "tables", *lines)
    table = Table("~/tables/table.csv")
    assert len(table.split("train")[0].masks) == len(table.split("val")[0].masks) == 1


@pytest.mark.parametrize(
    "path",
    [
        r"images\{0}.png,masks\{0}.png",
        r"C:\set\images\{0}.png,C:\set\masks\{0}.png",
        "/home/u/images/{0}.png,../masks/{0}.png",
    ],
)
def test_paths_of_another_machine_lead_to_the_files_beside_the_table(tmp_path, path):
    make(tmp_path, "ab")
    lines = [path.format("a") + ",train", path.format("b") + ",val"]
    split = Table(write(tmp_path, "image,mask,split", *lines)).split("val")
    assert split.items[0].image == tmp_path / "images" / "b.png"
    assert split.items[0].masks == (tmp_path / "masks" / "b.png",)


def test_a_name_with_a_tilde_is_no_home_folder(messages, tmp_path):
    make(tmp_path, ["~a", "b"])
    (tmp_path / "images/~a.png").rename(tmp_path / "~a.png")
    table = write(tmp_path, "image,mask,split", "~a.png,masks/~a.png,train", "images/b.png,masks/b.png,val")
    assert Table(table).split("train").names == ["~a"]
    messages.refusal(lambda: Table("~nobody_has_this_name/t.csv"), "~nobody_has_this_name/t.csv: ")
    table = write(tmp_path, "image,mask,split", "~nobody/a.png,masks/~a.png,train", f"{'b' * 5000},masks/b.png,val")
    messages.refusal(lambda: Table(table).split("train"), "2 issues", "~nobody/a.png")


def test_images_in_a_folder_below_go_by_their_name(messages, tmp_path):
    make(tmp_path, "ab")
    for name in "ab":
        save(tmp_path / "deep/photos" / f"{name}_photo.jpg", np.zeros((6, 8), np.uint8))
    lines = ["a_photo,masks/a.png,train", "b_photo.jpg,masks/b.png,val"]
    split = Table(write(tmp_path, "image,mask,split", *lines)).split("train")
    assert split.items[0].image == tmp_path / "deep/photos/a_photo.jpg"
    # images/a.png and masks/a.png have this name
    table = write(tmp_path, "image,mask,split", "a,masks/a.png,train", "b,masks/b.png,val")
    messages.refusal(lambda: Table(table).split("train"), "line 2: ", "line 3: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_in_the_place_of_a_table_is_refused_and_not_opened(messages, tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    messages.refusal(lambda: Table(tmp_path / "t.csv").split("train"), tmp_path / "t.csv")
