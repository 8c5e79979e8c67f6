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


@pytest.mark.parametrize(
    ("name", "between", "options"),
    [
        ("t.csv", ",", {}),
        ("t.csv", ";", {}),
        ("t.csv", "\t", {}),
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


def test_an_image_is_not_its_own_mask(messages, tmp_path):
    make(tmp_path, "ab")
    table = write(tmp_path, "image,mask,split", "images/a.png,images/./a.png,train", *rows("b", "val"))
    messages.refusal(lambda: Table(table).split("train"), "line 2: ", "images/a.png")


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
