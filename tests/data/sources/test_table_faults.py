"""Lines and columns of a table that cannot be used are listed."""

import pytest

from sam_ft.data.sources.issues import Issue
from sam_ft.data.sources.table import Table
from tests.data.sources.test_table import rows, write
from tests.support.files import MASK, make, save


def test_all_that_is_wrong_is_listed_with_its_line(messages, tmp_path):
    make(tmp_path, "abc")
    table = write(
        tmp_path,
        "image,mask,split,label",
        "images/a.png,masks/a.png,train,cell",
        "images/gone.png,masks/b.png,train,cell",
        "images/b.png,,train,cell",
        "images/a.png,masks/a.png,train,cell",
        "images/a.png,masks/c.png,val,cell",
        "images/b.png,masks/gone.png,tset,cell",
        "images/c.png,masks/c.png,,worm",
        "images/c.png",
    )
    first, *others = messages.refusal(lambda: Table(table, classes={"cell": 1}).split("train")).split("\n")
    assert first.startswith(f"{table}: 12 ")
    facts = [
        ("line 3: ", "image", "images/gone.png"),
        ("line 4: ", "mask"),
        ("line 5: ", "line 2"),
        ("line 6: ", "images/a.png", "val", "train", "line 2"),
        ("line 7: ", "mask", "masks/gone.png"),
        ("line 7: ", "split", "tset", "train, val or test"),
        ("line 7: ", "images/b.png", "tset", "train", "line 4"),
        ("line 8: ", "split", "train, val or test"),
        ("line 8: ", "label", "worm", "data.classes", "cell"),
        ("line 9: ", "mask"),
        ("2 more",),
    ]
    for line, words in zip(others, facts, strict=True):
        assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (["picture,mask"], [" image", "picture, mask", "data.image_column"]),
        (["a,b"], [" image", " mask", " a, b"]),
        ([""], [" image", " mask"]),
        (["image,mask,mask"], [" mask "]),
        (["image,mask", ""], []),
        (["images/a.png,masks/a.png", "images/b.png,masks/b.png"], ["header", "image,mask"]),
        (["PK\3\4\0\0"], [".csv"]),
    ],
)
def test_a_table_of_other_columns_is_refused(messages, tmp_path, lines, facts):
    messages.refusal(lambda: Table(write(tmp_path, *lines)), "table.csv: ", *facts)


@pytest.mark.parametrize(
    ("header", "found", "wanted", "option"),
    [
        ("image,mask,Split", "Split", "split", "split_column"),
        ("image;mask;split;Label ", "Label", "label", "label_column"),
        ("Image;mask;split", "Image", "image", "image_column"),
        ("image,MASK,split", "MASK", "mask", "mask_column"),
        ("image,mask,sp lit", "sp lit", "split", "split_column"),
    ],
)
def test_a_column_that_is_nearly_an_expected_one_is_refused(messages, tmp_path, header, found, wanted, option):
    make(tmp_path, "ab")
    facts = ["table.csv: ", f"'{found}'", f"'{wanted}'", f"""'data.{option}="{found}"'"""]
    messages.refusal(lambda: Table(write(tmp_path, header, "images/a.png,masks/a.png,train")), *facts)


def test_columns_that_are_not_read_are_said_once(messages, tmp_path, caplog):
    make(tmp_path)
    lines = [f"{row},me" for row in (*rows("abcde", "train"), *rows("fghij", "val"))]
    table = write(tmp_path, "image,mask,fold,by whom", *lines)
    caplog.set_level("INFO", "sam_ft")
    for name in ("train", "val"):
        Table(table, val_fraction=0.5).split(name)
    messages.logged(caplog, f"{table}: ", "fold, by whom", "data.split_column")
    caplog.clear()
    Table(table, split_column="fold").split("train")
    messages.logged(caplog, ": by whom", "data.label_column")
    caplog.clear()
    Table(table, split_column="fold", label_column="by whom").split("train")
    assert not caplog.messages


def test_a_row_without_a_split_is_named_as_such(messages, tmp_path):
    make(tmp_path, "a")
    save(tmp_path / "masks" / "b.png", MASK)
    table = write(tmp_path, "image,mask,split", "images/a.png,masks/a.png,train", "images/a.png,masks/b.png,")
    messages.refusal(lambda: Table(table).split("train"), "line 3: images/a.png ", "train", "line 2")


def test_a_column_that_was_named_must_be_there(messages, tmp_path):
    make(tmp_path, "ab")
    table = write(tmp_path, "image,mask", *rows("ab"))
    messages.refusal(lambda: Table(table, split_column="fold"), " fold")
    messages.refusal(lambda: Table(table, label_column="class"), " class")


def test_what_is_no_table_is_refused(messages, tmp_path):
    messages.refusal(lambda: Table(tmp_path / "gone.csv"), "gone.csv: ", "No such file")
    (tmp_path / "tested.csv").write_text("image,mask,split\na.png,b.png,test\n")
    messages.refusal(lambda: Table(tmp_path / "tested.csv"), "tested.csv: ", "test", "train and val")
    make(tmp_path, "ab")
    table = Table(write(tmp_path, "image,mask,split", *rows("ab", "train")))
    messages.refusal(lambda: table.split("val"), "split val")
    messages.refusal(lambda: table.split("test"), "test")
    messages.refusal(lambda: Table(table.table, val_fraction=2), "data.val_fraction=2;")


def test_bad_files_of_a_table_may_be_skipped(messages, tmp_path):
    make(tmp_path, "abc")
    (tmp_path / "masks" / "b.png").write_bytes(b"")
    table = write(tmp_path, "image,mask,split", *rows("ab", "train"), *rows("c", "val"))
    messages.refusal(Table(table).split("train").survey, "b.png: ")
    assert Table(table, on_bad="skip").split("train").survey().bad == ["b"]


def test_an_image_is_not_its_own_mask(messages, tmp_path):
    make(tmp_path, "ab")
    table = write(tmp_path, "image,mask,split", "images/a.png,images/./a.png,train", *rows("b", "val"))
    messages.refusal(lambda: Table(table).split("train"), "line 2: ", "images/a.png")


def test_a_name_that_several_files_have_is_not_called_missing(messages, tmp_path):
    make(tmp_path, "a")
    table = write(tmp_path, "image,mask", "a.png,masks/a.png")
    messages.refusal(lambda: Table(table, val_fraction=1).split("val"), "images/a.png, masks/a.png")


def test_a_mask_of_several_images_is_warned_of(messages, tmp_path, caplog):
    make(tmp_path, "abc")
    rows = [f"images/{image}.png,masks/{mask}.png" for image, mask in ("aa", "ba", "cc")]
    table = Table(write(tmp_path, "image,mask", *rows), val_fraction=1)
    found: list[Issue] = []
    table.usable_split("val", found)
    messages.check(found[0].problem, "1 mask", "masks/a.png")
    assert [issue.level for issue in found] == ["warning"]
    with caplog.at_level("WARNING", "sam_ft"):
        Table(write(tmp_path, "image,mask", *rows), val_fraction=0.5).split("train")
    assert "masks/a.png" in caplog.text
