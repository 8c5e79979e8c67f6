"""What of a COCO file cannot be used, or is odd, and in which words that is said."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.sources.coco import Coco
from sam_ft.utils.errors import DataError
from tests.data.sources.test_coco import COUNTS, SQUARE, annotation, image, make, moved, refusal, split


@pytest.mark.parametrize("options", [{"categories": "dog"}, {"categories": []}, {"on_bad": "drop"}])
def test_settings_that_are_not_known_are_refused(tmp_path, options):
    assert "expected" in refusal(lambda: Coco(tmp_path, **options))


def test_all_faults_are_listed_in_one_error(tmp_path):
    images = [
        image(1),
        image(2, "gone.png"),
        image(3),
        image(3, "003b.png"),
        image(4, "twice.png"),
        image(5, "twice.png"),
        {"id": 6, "file_name": "006.png"},
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
    message = refusal(found.survey)
    assert message.startswith(f"{tmp_path / 'train.json'}: 9 of 11 images and 16 of 17 annotations cannot be used")
    assert "narrow.png: the image is 8 x 6 pixels but train.json says 7 x 6" in message
    for line in (
        "images that have no id or no file_name, 1: images[9]",
        "images that have no height and width in whole pixels, 1: 006.png",
        "images that share their id with another image, 2: 003.png (3), 003b.png (3)",
        "images that share their file_name with another image, 2: twice.png (id 4), twice.png (id 5)",
        r"images that have a file_name that is not valid UTF-8, 1: '\ud800.png'",
        f"images that have no file in {tmp_path / 'train'}, 2: gone.png, {'é' * 300}",
        "annotations that have an unknown image_id (expected the id of one in the file), 1: 10 (99)",
        "annotations that have an unknown category_id (expected the id of one in the file), 2: 11 (4), 23 (5)",
        "annotations that share their id with another annotation, 2: 12, 12",
        "annotations that have a polygon of under 3 points or an odd number of coordinates (expected x, y, x, y, x, y, "
        "...), 2: 13, 14",
        "annotations that have a polygon with other things than numbers in it (or numbers beyond a million), 2: 15, 16",
        "annotations that have an RLE of another size than their image (expected [height, width]), 1: 17 ([8, 6])",
        "annotations that have a damaged RLE (expected run lengths that add up to height * width), 2: 18, 19",
        "annotations that have no segmentation (expected polygons or RLE; a box alone is not enough), 2: 20, "
        "annotations[15]",
        "annotations that lie wholly outside their image (expected pixels from the top left corner), 1: 21",
        "annotations that have another segmentation than polygons [[x, y, x, y, ...], ...] or RLE {size, counts}, "
        "1: 22",
    ):
        assert f"\n  {line}\n" in message, line
    assert refusal(lambda: found[0]) in message  # who does not ask for a survey is told as well


def test_faults_are_skipped_up_to_one_percent(tmp_path, caplog):
    images = [image(key) for key in range(200)]
    annotations = [annotation(key, key % 200) for key in range(400)]
    for bad in (5, 6, 7, 8):
        annotations[bad]["category_id"] = 1
    make(tmp_path, annotations, images, missing=["010.png", "020.png"])
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        found = split(tmp_path, on_bad="skip")
    assert len(caplog.records) == 1
    assert "leaves out 2 of 200 images and 4 of 400 annotations" in caplog.text
    assert "4: 5 (1), 6 (1), 7 (1), 8 (1)" in caplog.text
    assert "010.png, 020.png" in caplog.text
    assert len(found) == 198
    assert "010" not in found.names
    assert found.survey().objects == 400 - 4 - 2 * 2
    assert len(found[5].masks) == 1
    assert found.names[10] == "011"
    assert len(found[10].masks) == 2
    annotations[9]["category_id"] = 1
    make(tmp_path, annotations, images)
    assert "data.on_bad=skip leaves out 1 % (or one) at most" in refusal(split(tmp_path, on_bad="skip").survey)


def test_a_fault_of_few_annotations_may_be_more_than_one_percent(tmp_path):
    make(tmp_path, [annotation(1), annotation(2, category=1)])
    assert split(tmp_path, on_bad="skip").survey().objects == 1
    make(tmp_path, [annotation(1), annotation(2, category=1), annotation(3, category=1)])
    assert "2 of 3 annotations" in refusal(split(tmp_path, on_bad="skip").survey)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"images": [],\n "annotations": [}', "is damaged at line 2, column 18"),
        ("", "is damaged at line 1, column 1"),
        ("[]", "holds a list but no COCO instance annotations"),
        ('{"shapes": [], "imagePath": "a.png"}', "the keys imagePath, shapes but no COCO instance annotations"),
        ('{"shapes": [], "imagePath": "a.png"}', "This looks like LabelMe"),
        ('{"images": [], "annotations": [{"segments_info": []}], "categories": []}', "This looks like COCO panoptic"),
        ('{"images": [], "annotations": [{"caption": "a dog"}]}', "This looks like COCO captions"),
        ('{"images": [], "annotations": {}, "categories": []}', "each a list"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "has the category {'id': 1}; expected"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
    ],
)
def test_a_file_of_another_kind_is_named_by_what_it_holds(tmp_path, content, said):
    (tmp_path / "train").mkdir()
    (tmp_path / "train.json").write_text(content)
    message = refusal(lambda: split(tmp_path))
    assert message.startswith(f"{tmp_path / 'train.json'}: ")
    assert said in message


def test_missing_files_and_folders_are_named(tmp_path):
    assert "is not a folder; set data.root" in refusal(lambda: Coco(tmp_path / "none"))
    assert "train: is not a folder; name that of the images with data.train_images" in refusal(lambda: split(tmp_path))
    (tmp_path / "train").mkdir()
    assert "data.train and data.val" in refusal(lambda: split(tmp_path))


def turn(path, orientation, size=(6, 8)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(size, np.uint8)).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_image_that_was_annotated_as_stored_is_refused_with_the_reason(tmp_path, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}")])
    turn(tmp_path / "train" / f"a.{suffix}", 6)
    found = split(tmp_path)
    for act in (found.survey, lambda: found[0], lambda: found.annotations(0)):
        message = refusal(act)
        assert f"a.{suffix}: the image is 6 x 8 pixels but train.json says 8 x 6" in message
        assert "its size without its EXIF orientation" in message


def test_an_image_that_was_annotated_upright_is_read_upright(tmp_path):
    make(tmp_path, [annotation(1)], [image(1, "a.jpg")])
    turn(tmp_path / "train" / "a.jpg", 6, size=(8, 6))
    found = split(tmp_path)
    assert found.survey().objects == 1
    assert found[0].image.shape == (3, 6, 8)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "size"), [(3, (6, 8)), (2, (6, 8)), (6, (8, 8))])
def test_a_turn_that_the_size_does_not_show_is_warned_of(tmp_path, caplog, orientation, size, suffix):
    make(tmp_path, [annotation(1)], [image(1, f"a.{suffix}", height=size[0])])
    turn(tmp_path / "train" / f"a.{suffix}", orientation, size)
    with caplog.at_level(logging.WARNING, logger="sam_ft"):
        split(tmp_path).survey()
    assert "1 images are turned or mirrored by their EXIF orientation" in caplog.text


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png"])
def test_a_file_name_does_not_lead_out_of_the_folder(tmp_path, name):
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    content = {"images": [{"id": 1, "file_name": name, "width": 8, "height": 8}], "annotations": [], "categories": []}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="leads out of"):
        Coco(tmp_path).split("train").survey()
