"""Crowds, repeated annotations, categories of one name, and objects that fill the frame."""

import json

import pytest

from sam_ft.check.dataset import check_dataset
from sam_ft.check.formatting import as_text, as_values
from sam_ft.data.sources.coco import Coco
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.types import dense
from sam_ft.utils.errors import ConfigError
from tests.data.sources.test_coco import COUNTS, SQUARE, annotation, image, make, moved, split

CELL = [{"id": 3, "name": "cell"}]


def both(root, train, val=None, categories=CELL, val_categories=None):
    """Two images in train and two others in val, with annotations on the first."""
    images = [image(1), image(2)]
    make(root, train, images, categories=categories)
    for key in (3, 4):
        (root / "val").mkdir(exist_ok=True)
        path = root / "train" / f"{key - 2:03}.png"
        (root / "val" / f"{key:03}.png").write_bytes(path.read_bytes())
    content = {
        "images": [image(3), image(4)],
        "annotations": [{**one, "image_id": 3} for one in (train if val is None else val)],
        "categories": val_categories or categories,
    }
    (root / "val.json").write_text(json.dumps(content))
    return root


def crowds(count, others, flag=1):
    return [
        annotation(key, segmentation=moved(key % 4, key // 4 % 3), iscrowd=flag if key < count else 0, category=3)
        for key in range(count + others)
    ]


def hints(data, caplog, location):
    """Warnings of train.py, and warnings and notes of the check about a file."""
    with caplog.at_level("INFO", "sam_ft"):
        survey_splits(*open_splits(data))
    logged = [record.message for record in caplog.records if record.levelname == "WARNING"]
    issues = [one for one in check_dataset(data, 256).issues if one.kind == "data set" and one.location == location]
    return [message for message in logged if "same pixels" not in message], issues


@pytest.mark.parametrize("flag", [1, True, 1.0, "1", "true"])
@pytest.mark.parametrize(
    ("count", "others", "level"), [(0, 4, "note"), (2, 4, "note"), (3, 5, "warning"), (4, 2, "warning")]
)
def test_the_number_of_crowds_is_always_shown_and_many_are_warned_of(
    messages, tmp_path, caplog, count, others, level, flag
):
    root = both(tmp_path, crowds(count, others, flag))
    logged, issues = hints(Coco(root), caplog, str(root / "train.json"))
    assert f"train: 2 images with {others} objects, {count} crowds (data.crowds=ignore)" in caplog.text
    assert [(one.level, one.problem) for one in issues] == [
        (level, f"{count} of {count + others} annotations are crowds (iscrowd=1)")
    ]
    assert len(logged) == (level == "warning")
    assert ("data.crowds=objects" in issues[0].advice) == (count > 0)


def test_crowds_may_be_objects(tmp_path, caplog):
    root = both(tmp_path, crowds(4, 2))
    data = Coco(root, crowds="objects")
    logged, issues = hints(data, caplog, str(root / "train.json"))
    assert not logged
    assert [one.level for one in issues] == ["note"]
    assert "train: 2 images with 6 objects, 4 crowds (data.crowds=objects)" in caplog.text
    sample = data.split("train")[0]
    assert (len(sample.masks), sample.ignore) == (6, None)
    assert len(Coco(root, crowds="objects", min_area=10).split("train")[0].masks) == 0  # of 9 pixels


def test_a_set_of_crowds_alone_names_them(messages, tmp_path, caplog):
    data = Coco(both(tmp_path, crowds(4, 0)))
    messages.refusal(lambda: survey_splits(*open_splits(data)), "train images", "4 crowds", "data.crowds=ignore")
    assert "data.crowds=objects" in caplog.text
    text = as_text(check_dataset(data, 256))
    assert "holds no objects at all; look at the annotations, at data.categories, data.crowds" in text


def test_an_unknown_use_of_crowds_is_refused(messages, tmp_path):
    with messages.raises(ConfigError, "data.crowds=yes", "ignore", "objects"):
        split(make(tmp_path, []), crowds="yes")


REPEATED = {
    "copied": [annotation(1), annotation(2)],
    "as run lengths": [annotation(1), annotation(2, segmentation={"size": [6, 8], "counts": COUNTS})],
    "from another corner": [annotation(1), annotation(2, segmentation=[SQUARE[2:] + SQUARE[:2]])],
    "crowds": [annotation(1, iscrowd=1), annotation(2, iscrowd=1), annotation(3, segmentation=moved(3, 1))],
}


@pytest.mark.parametrize("kind", REPEATED)
def test_an_annotation_that_equals_another_one_counts_once(tmp_path, caplog, kind):
    root = both(tmp_path, REPEATED[kind])
    logged, _ = hints(Coco(root), caplog, str(root / "train.json"))
    assert any("1 annotations equal another one of their image; each object counts once: 2" in line for line in logged)
    issues = [one for one in check_dataset(Coco(root), 256).issues if "equal another" in one.problem]
    assert [(one.name, one.level) for one in issues] == [("2", "warning")] * 2
    sample = Coco(root).split("train")[0]
    assert len(sample.masks) == 1


def test_equal_masks_of_other_classes_or_images_are_objects_of_their_own(tmp_path):
    entries = [annotation(1), annotation(2, category=17), annotation(3, 2)]
    found = split(make(tmp_path, entries, [image(1), image(2)]))
    assert [found[0].labels.tolist(), found[1].labels.tolist()] == [[3, 17], [3]]
    assert not [issue for issue in found.json_issues() if "equal" in issue.problem]


NAMED_ALIKE = [{"id": 5, "name": "cell"}, {"id": 2, "name": "cell"}, {"id": 9, "name": "dust"}]
OTHER_IDS = [{"id": 1, "name": "dust"}, {"id": 5, "name": "dirt"}, {"id": 9, "name": "cell"}]


def test_categories_of_one_name_are_one_class_in_all_tables(tmp_path, caplog):
    train = [annotation(1, category=5), annotation(2, category=2, segmentation=moved(3, 1)), annotation(3, category=9)]
    root = both(tmp_path, train, categories=NAMED_ALIKE)
    data = Coco(root)
    _, issues = hints(data, caplog, str(root / "train.json"))
    assert [(one.level, one.advice) for one in issues if "cell" in one.problem] == [("note", "they are one class")]
    assert "2 categories have the name cell: ids 5, 2" in caplog.text
    found = data.split("train")
    assert found.classes == {5: "cell", 9: "dust"}
    assert found[0].labels.tolist() == [5, 5, 9]
    assert Coco(root, categories=["cell"]).split("train")[0].labels.tolist() == [5, 5]


def test_classes_of_both_splits_are_matched_by_name(tmp_path):
    train = [annotation(1, category=5), annotation(2, category=9)]
    val = [annotation(key, category=key) for key in (1, 5, 9)]
    data = Coco(both(tmp_path, train, val, NAMED_ALIKE, OTHER_IDS))
    first, second = open_splits(data)
    assert second.classes == {9: "dust", 10: "dirt", 5: "cell"}  # dirt has the id of cell in train
    assert second[0].labels.tolist() == [9, 10, 5]
    assert first[0].labels.tolist() == [5, 9]
    root = data.root
    alone = Coco(root).split("val")  # as evaluate.py opens it
    assert (alone.classes, alone[0].labels.tolist()) == (second.classes, [9, 10, 5])
    content = json.loads((root / "train.json").read_text())
    for other in ({"categories": content.pop("categories"), **content}, {}, [], {"categories": 3}):
        (root / "train.json").write_text(json.dumps(other, indent=1))
        labels = Coco(root).split("val")[0].labels.tolist()
        assert labels == ([9, 10, 5] if "images" in other else [1, 5, 9])
    (root / "train.json").unlink()
    assert Coco(root).split("val")[0].labels.tolist() == [1, 5, 9]


def test_the_check_counts_the_classes_of_both_splits_by_name(tmp_path):
    train = [annotation(1, category=5), annotation(2, category=9)]
    val = [annotation(key, category=key) for key in (1, 5, 9)]
    data = Coco(both(tmp_path, train, val, NAMED_ALIKE, OTHER_IDS))
    assert as_values(check_dataset(data, 256))["classes"] == {
        "cell": {"train": 1, "val": 1},
        "dust": {"train": 1, "val": 1},
        "dirt": {"train": 0, "val": 1},
    }


FRAME = [[0, 0, 8, 0, 8, 6, 0, 6]]
AROUND = {"size": [6, 8], "counts": [0, 20, 3, 25]}


@pytest.mark.parametrize("segmentation", [FRAME, AROUND])
def test_annotations_of_the_whole_frame_are_warned_of(messages, tmp_path, caplog, segmentation):
    entries = [annotation(1), annotation(2, segmentation=segmentation), annotation(3, 2, segmentation=segmentation)]
    root = both(tmp_path, entries, entries[:2])
    (logged, *_), issues = hints(Coco(root), caplog, str(root / "train.json"))
    messages.check(logged, "train: ", "whole frame in 2 of 2 images", "data.categories")
    assert issues[-1].level == "warning"
    few = split(make(tmp_path / "few", entries[:2], [image(1), image(2)]))
    assert not [hint for hint in few.survey().hints if "frame" in hint.problem]
    assert dense(few[0].masks).all((1, 2)).tolist() == [False, segmentation is FRAME]
