"""Entries of a COCO file that cannot be used, or are odd, are listed."""

import logging

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.sources.coco import Coco
from sam_ft.data.sources.issues import Issue
from sam_ft.utils.errors import DataError
from tests.data.sources.test_coco import COUNTS, SQUARE, annotation, image, make, moved, split


@pytest.mark.parametrize("options", [{"categories": "dog"}, {"categories": []}, {"on_bad": "drop"}])
def test_settings_that_are_not_known_are_refused(messages, tmp_path, options):
    messages.refusal(lambda: Coco(tmp_path, **options), *(f"data.{name}=" for name in options))


def test_all_faults_are_listed_in_one_error(messages, tmp_path):
    images = [
        image(1),
        image(1),  # no fault
        image(2, "gone.png"),
        image(3),
        image(3, "003b.png"),
        image(4, "twice.png"),
        image(5, "twice.png"),
        {"id": 6, "file_name": "006.png", "width": 8},
        image(7, "\ud800.png"),
        image(8, "narrow.png", width=7),
        {"id": 9, "width": 8, "height": 6},
        image(10, "é" * 300),
    ]
    annotations = [
        annotation(1),
        annotation(10, image=99),
        annotation(11, category=4),
        annotation(12),
        annotation(13, segmentation=[[1, 1, 4, 1]]),
        annotation(14, segmentation=[[1, 1, 4, 1, 4, 4, 1]]),
        annotation(15, segmentation=[[1, 1, 4, 1, 4, "4"]]),
        annotation(16, segmentation=[[1, 1, 4, 1, 4, float("nan")]]),
        annotation(17, segmentation={"size": [8, 6], "counts": COUNTS}),
        annotation(18, segmentation={"size": [6, 8], "counts": COUNTS[:-1]}),
        annotation(19, segmentation={"size": [6, 8], "counts": "73"}),
        annotation(20, segmentation=[]),
        annotation(21, segmentation=moved(100, 0)),
        annotation(22, segmentation=SQUARE),
        {"image_id": 1, "category_id": 3},
        annotation(23, image=2, category=5),  # its image is gone, but this is a fault too
    ]
    found = split(make(tmp_path, annotations, images, missing=["gone.png"]))
    facts = ["9 of 12 images", "14 of 16 annotations", "narrow.png: ", "8 x 6 pixels", "7 x 6"]
    message = messages.refusal(found.survey, *facts)
    assert message.startswith(f"{tmp_path / 'train.json'}: ")
    for entries in (
        "1: images[10]",
        "1: 006.png",
        "2: 003.png (3), 003b.png (3)",
        "2: twice.png (id 4), twice.png (id 5)",
        r"1: '\ud800.png'",
        f"in {tmp_path / 'train'} (data.missing=skip leaves them out), 2: gone.png, {'é' * 300}",
        "1: 10 (99)",
        "2: 11 (4), 23 (5)",
        "2: 13, 14",
        "2: 15, 16",
        "1: 17 ([8, 6])",
        "2: 18, 19",
        "2: 20, annotations[14]",
        "1: 21",
        "1: 22",
    ):
        assert sum(line.endswith(entries) for line in message.split("\n")) == 1, entries
    assert messages.refusal(lambda: found[0]) in message  # without a survey too


@pytest.mark.parametrize(("image_id", "category_id"), [("1", "3"), (1, "3"), ("1", 3)])
def test_an_id_may_be_a_number_in_one_place_and_its_text_in_another(tmp_path, image_id, category_id):
    make(tmp_path, [annotation(1) | {"image_id": image_id, "category_id": category_id}])
    assert split(tmp_path)[0].labels.tolist() == [3]
    make(tmp_path, [annotation(1) | {"category_id": category_id}], categories=[{"id": "3", "name": "cell"}])
    assert split(tmp_path).classes == {3: "cell"}
    texts = [{"id": "1", "file_name": "001.png", "width": 8, "height": 6}]
    make(tmp_path, [annotation(1)], texts)
    assert split(tmp_path).survey().objects == 1


def test_names_that_differ_only_in_case_or_spaces_are_warned_of(messages, tmp_path, caplog):
    names = ["cell", "Cell ", "dog", "hot dog"]
    make(tmp_path, [annotation(1)], categories=[{"id": key, "name": name} for key, name in enumerate(names, 3)])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path)
    messages.logged(caplog, "train.json", "2 class names", ": 'cell', 'Cell '")
    assert [issue.name for issue in found.json_issues()][:2] == ["'cell'", "'Cell '"]


def test_faults_of_all_images_are_listed_where_one_file_is_split(messages, tmp_path):
    make(tmp_path, [annotation(1)], [image(key, width="8") for key in (1, 2)])
    data = Coco(tmp_path, "train.json", "train.json", "train", "train")
    messages.refusal(lambda: data.split("train").survey(), "2 of 2 images", "height and width", "001.png, 002.png")
    found: list[Issue] = []
    assert len(data.usable_split("val", found)) == 0
    assert [issue.name for issue in found if issue.level == "error"] == ["001.png", "002.png"]


@pytest.mark.parametrize(
    ("box", "warned"), [([1, 1, 3, 3], 0), ([0, 0, 4, 4], 0), ([40, 30, 3, 3], 1), ([], 0), (["a", 1, 2, 3], 0)]
)
def test_outlines_far_from_their_boxes_are_warned_of(messages, tmp_path, caplog, box, warned):
    """As where outlines are in percent, or x and y are exchanged."""
    make(
        tmp_path,
        [annotation(1, bbox=box), annotation(2, bbox=box, category=17), annotation(3, segmentation=moved(3, 1))],
    )
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        assert len(split(tmp_path)[0].masks) == 3
    assert len(caplog.records) == warned
    if warned:
        messages.logged(caplog, "bbox", ": 1, 2")


def test_faults_are_skipped_up_to_one_percent(messages, tmp_path, caplog):
    images = [image(key) for key in range(200)]
    annotations = [annotation(key, key % 200, 3 if key < 200 else 17) for key in range(400)]
    for bad in (5, 6, 7, 8):
        annotations[bad]["category_id"] = 1
    make(tmp_path, annotations, images, missing=["010.png", "020.png"])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path, on_bad="skip")
    facts = ["2 of 200 images", "4 of 400 annotations", "4: 5 (1), 6 (1), 7 (1), 8 (1)", "010.png, 020.png"]
    messages.logged(caplog, *facts)
    assert len(found) == 198
    assert "010" not in found.names
    assert found.survey().objects == 400 - 4 - 2 * 2
    assert len(found[5].masks) == 1
    assert found.names[10] == "011"
    assert len(found[10].masks) == 2
    annotations[9]["category_id"] = 1
    make(tmp_path, annotations, images)
    messages.refusal(split(tmp_path, on_bad="skip").survey, "data.on_bad=skip", "5 of 400 annotations")


def test_a_fault_of_few_annotations_may_be_more_than_one_percent(messages, tmp_path):
    make(tmp_path, [annotation(1), annotation(2, category=1)])
    assert split(tmp_path, on_bad="skip").survey().objects == 1
    make(tmp_path, [annotation(1), annotation(2, category=1), annotation(3, category=1)])
    messages.refusal(split(tmp_path, on_bad="skip").survey, "2 of 3 annotations")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ('{"images": [],\n "annotations": [}', "line 2, column 18"),
        ("", "line 1, column 1"),
        ("[]", "list"),
        ('{"a.png123": {"filename": "a.png", "regions": []}}', "VGG Image Annotator"),
        ('{"shapes": [], "imagePath": "a.png"}', "imagePath, shapes"),
        ('{"shapes": [], "imagePath": "a.png"}', "LabelMe"),
        ('{"images": [], "annotations": [{"segments_info": []}], "categories": []}', "COCO panoptic"),
        ('{"images": [], "annotations": [{"caption": "a dog"}]}', "COCO captions"),
        ('{"images": [], "annotations": {}, "categories": []}', "list"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "{'id': 1}"),
        ('{"images": [], "annotations": [], "categories": []}', "images"),
    ],
)
def test_a_file_of_another_kind_is_named_by_what_it_holds(messages, tmp_path, content, fact):
    (tmp_path / "train").mkdir()
    (tmp_path / "train.json").write_text(content)
    messages.refusal(lambda: split(tmp_path), f"{tmp_path / 'train.json'}: ", fact)


def test_missing_files_and_folders_are_named(messages, tmp_path):
    messages.refusal(lambda: Coco(tmp_path / "none"), tmp_path / "none", "data.root")
    messages.refusal(lambda: split(tmp_path), f"{tmp_path}: ", "data.train")
    make(tmp_path, [annotation(1)])
    messages.refusal(lambda: split(tmp_path, train_images="other"), f"{tmp_path / 'other'}: ", "data.train_images")
    messages.refusal(lambda: split(tmp_path, train="other.json"), f"{tmp_path / 'other.json'}: ", "data.train")
    messages.refusal(lambda: Coco(tmp_path).split("val"), f"{tmp_path}: ", "train.json", "data.val")
    (tmp_path / "train" / "001.png").unlink()
    messages.refusal(lambda: split(tmp_path), "train.json: ", "001.png", "data.train_images")


def turn(path, orientation, size=(6, 8)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(size, np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_image_that_was_annotated_as_stored_is_refused_with_the_reason(messages, tmp_path, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}")])
    turn(tmp_path / "train" / f"a.{suffix}", 6)
    found = split(tmp_path)
    for act in (found.survey, lambda: found[0], lambda: found.annotations(0)):
        messages.refusal(act, f"a.{suffix}: ", "6 x 8 pixels", "train.json", "8 x 6", "EXIF orientation")


def test_an_image_that_was_annotated_upright_is_read_upright(tmp_path):
    make(tmp_path, [annotation(1)], [image(1, "a.jpg")])
    turn(tmp_path / "train" / "a.jpg", 6, size=(8, 6))
    found = split(tmp_path)
    assert found.survey().objects == 1
    assert found[0].image.shape == (3, 6, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "size"), [(3, (6, 8)), (2, (6, 8)), (6, (8, 8))])
def test_a_turn_that_the_size_does_not_show_is_warned_of(messages, tmp_path, caplog, orientation, size, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}", height=size[0])])
    turn(tmp_path / "train" / f"a.{suffix}", orientation, size)
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        split(tmp_path).survey()
    messages.logged(caplog, "1 image", "EXIF orientation", ": a")


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png", "~/secret.png", "..\\\\secret.png"])
def test_a_file_name_does_not_lead_out_of_the_folder(messages, tmp_path, name):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    root = make(tmp_path / "data", [annotation(1)], [image(1), image(2, name)], missing=[name])
    with messages.raises(DataError, name):
        Coco(root).split("train").survey()
