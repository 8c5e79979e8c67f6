"""The check of a table of files."""

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text
from sam_ft.data.sources.table import Table
from tests.check.test_check import IDS, cut, listed, pairs
from tests.support.files import save


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
    pairs(tmp_path, "a", "b", "c", "d")
    (tmp_path / "images/a.png").write_bytes((tmp_path / "images/a.png").read_bytes()[:60])
    save(tmp_path / "masks/c.png", IDS[:20])  # its size cannot be compared with that of the image
    table = tmp_path / "table.csv"
    table.write_text(
        "image,mask,split\nimages/a.png,masks/a.png,train\nimages/a.png,masks/c.png,train\n"
        "images/b.png,masks/b.png,train\nimages/d.png,masks/d.png,val\n"
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
