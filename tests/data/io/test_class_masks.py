"""Masks that hold several classes, by id or by color."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.io.class_masks import BLENDED, read_class_mask
from sam_ft.data.io.classes import ClassMap
from sam_ft.data.sources.folder import Folder
from sam_ft.types import dense
from sam_ft.utils.errors import DataError
from tests.support.files import make, save

IDS = np.array(
    [
        [0, 1, 1, 0, 2, 2],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 2, 2],
        [3, 0, 1, 0, 2, 2],
    ],
    np.uint8,
)
COLOURS = {0: (0, 0, 0), 1: (0, 128, 0), 2: (128, 0, 0), 3: (255, 255, 0), 9: (224, 224, 192)}
BY_ID = {"crop": 1, "weed": 2, "stone": 3}
BY_COLOUR = {name: list(COLOURS[code]) for name, code in BY_ID.items()}


def colored(ids):
    return np.array([[COLOURS[code] for code in row] for row in ids], np.uint8)


def indexed(ids):
    image = Image.fromarray(ids).convert("L")
    image.putpalette([part for code in range(10) for part in COLOURS.get(code, (7, 7, 7))])
    return image


def folder(root, mask, classes, suffix="png", **options):
    for name in "abcd":
        save(root / "images" / f"{name}.png", np.zeros((4, 6, 3), np.uint8))
        save(root / "masks" / f"{name}.{suffix}", mask)
    return Folder(root, objects="classes", classes=classes, val_fraction=0.5, **options).split("train")


ENCODINGS = {
    "8 bit": (IDS, BY_ID),
    "16 bit": (IDS.astype(np.uint16), BY_ID),
    "three equal channels": (np.dstack([IDS] * 3), BY_ID),
    "palette by index": (indexed(IDS), BY_ID),
    "palette by color": (indexed(IDS), BY_COLOUR),
    "RGB": (colored(IDS), BY_COLOUR),
    "RGBA": (np.dstack([colored(IDS), IDS]), BY_COLOUR),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_three_classes_are_the_same_sample_in_every_encoding(tmp_path, encoding, suffix):
    split = folder(tmp_path, *ENCODINGS[encoding], suffix=suffix)
    sample = split[0]
    assert torch.equal(dense(sample.masks), torch.from_numpy(np.stack([IDS == 1, IDS == 2, IDS == 3])))
    assert sample.labels.tolist() == [1, 2, 3]
    assert sample.object_index.tolist() == [0, 1, 2]
    assert sample.ignore is None
    assert split.classes == {1: "crop", 2: "weed", 3: "stone"}
    assert (split.survey().objects, split.survey().empty) == (3 * len(split), [])


def test_only_classes_that_are_there_are_objects(tmp_path):
    split = folder(tmp_path, IDS, {"weed": 2, "tree": 7, "crop": 1, "stone": 3})
    assert split[0].labels.tolist() == [2, 1, 3]  # in the table's order
    assert torch.equal(dense(split[0].masks)[0], torch.from_numpy(IDS == 2))
    assert split.classes == {2: "weed", 7: "tree", 1: "crop", 3: "stone"}


def test_zero_is_a_class_if_it_is_named(tmp_path):
    sample = folder(tmp_path, IDS, {"sky": 0, **BY_ID})[0]
    assert sample.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(dense(sample.masks)[0], torch.from_numpy(IDS == 0))
    sample = folder(tmp_path / "colors", colored(IDS), {"sky": [0, 0, 0], **BY_COLOUR})[0]
    assert sample.labels.tolist() == [1, 2, 3, 4]
    assert torch.equal(dense(sample.masks)[0], torch.from_numpy(IDS == 0))


def test_each_part_of_a_class_may_be_an_object(tmp_path):
    sample = folder(tmp_path, IDS, BY_ID, components_per_class=True, min_area=2)[0]
    assert sample.labels.tolist() == [1, 2, 2]
    assert dense(sample.masks).sum((1, 2)).tolist() == [4, 2, 4]
    assert torch.equal(dense(sample.masks)[1], torch.from_numpy((IDS == 2) & (np.arange(4) < 2)[:, None]))
    # the single pixels of crop and stone are no objects, but no background either
    assert torch.nonzero(sample.ignore).tolist() == [[3, 0], [3, 2]]
    sample = folder(tmp_path, IDS, BY_ID, components_per_class=True, min_area=1)[0]
    assert sample.labels.tolist() == [1, 1, 2, 2, 3]
    assert sample.ignore is None


@pytest.mark.parametrize("colors", [False, True])
def test_ignored_pixels_are_in_no_object(tmp_path, colors):
    with_void = np.where(np.arange(6) == 5, 9, IDS).astype(np.uint8)  # the last column
    ignore = list(COLOURS[9]) if colors else 9
    given = (colored(with_void), BY_COLOUR) if colors else (with_void, BY_ID)
    split = folder(tmp_path, *given, ignore_index=ignore)
    assert torch.equal(split[0].ignore, torch.from_numpy(with_void == 9))
    assert torch.equal(dense(split[0].masks)[1], torch.from_numpy(with_void == 2))
    assert split[0].labels.tolist() == [1, 2, 3]
    assert split.annotations(0).ignore.sum() == 4
    parts = folder(tmp_path, *given, ignore_index=ignore, components_per_class=True, min_area=2)[0]
    assert parts.ignore.sum() == 4 + 3  # void; and a crop, a weed and a stone of one pixel


def test_void_and_instances_go_together(tmp_path):
    make(tmp_path, "abcd", mask=np.where(np.eye(6, 8, dtype=bool), 255, 3).astype(np.uint8))
    sample = Folder(tmp_path, objects="instances", ignore_index=255, val_fraction=0.5).split("train")[0]
    assert sample.labels.tolist() == [3]
    assert torch.equal(sample.ignore, torch.eye(6, 8, dtype=torch.bool))
    assert torch.equal(dense(sample.masks)[0], ~sample.ignore)


@pytest.mark.parametrize("colors", [False, True])
def test_several_values_may_be_ignored(tmp_path, colors):
    with_void = np.where(np.arange(6) == 5, 9, IDS).astype(np.uint8)  # the last column
    given = (colored(with_void), {"crop": [0, 128, 0]}) if colors else (with_void, {"crop": 1})
    ignore = [list(COLOURS[code]) for code in (2, 3, 9)] if colors else [2, 3, 9]
    sample = folder(tmp_path, *given, ignore_index=ignore)[0]
    assert sample.labels.tolist() == [1]
    assert torch.equal(sample.ignore, torch.from_numpy(np.isin(with_void, (2, 3, 9))))


@pytest.mark.parametrize("colors", [False, True])
def test_other_values_are_background_or_ignored(tmp_path, colors):
    given = (colored(IDS), {"weed": [128, 0, 0]}) if colors else (IDS, {"weed": 2})
    for other, ignored in (("background", None), ("ignore", np.isin(IDS, (1, 3)))):
        sample = folder(tmp_path / other, *given, other=other)[0]
        assert torch.equal(dense(sample.masks), torch.from_numpy(IDS == 2)[None])
        assert (sample.ignore is None) == (ignored is None)
        assert ignored is None or torch.equal(sample.ignore, torch.from_numpy(ignored))


@pytest.mark.parametrize("colors", [False, True])
def test_the_background_of_classes_may_have_another_value(messages, tmp_path, colors):
    turned = np.where(IDS == 0, 9, IDS).astype(np.uint8)
    given, background = ((colored(turned), BY_COLOUR), list(COLOURS[9])) if colors else ((turned, BY_ID), 9)
    sample = folder(tmp_path, *given, background=background)[0]
    assert torch.equal(dense(sample.masks), torch.from_numpy(np.stack([IDS == 1, IDS == 2, IDS == 3])))
    assert sample.ignore is None
    # 0 and black are then values like others
    split = folder(tmp_path / "zero", *((colored(IDS), BY_COLOUR) if colors else (IDS, BY_ID)), background=background)
    messages.refusal(lambda: split[0], "(12 pixels)", "data.other=background")


def test_blended_edges_are_named_as_such(messages, tmp_path):
    rgb = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(rgb, (20, 20), 12, (0, 128, 0), -1)
    cv2.circle(rgb, (45, 45), 12, (128, 0, 0), -1)
    classes = {"crop": [0, 128, 0], "weed": [128, 0, 0]}
    for number, mask in enumerate((cv2.resize(rgb, (90, 90)), cv2.GaussianBlur(rgb, (3, 3), 0))):
        for name in "ab":
            save(tmp_path / f"{number}/images/{name}.png", np.zeros(mask.shape, np.uint8))
            save(tmp_path / f"{number}/masks/{name}.png", mask)
        data = Folder(tmp_path / str(number), objects="classes", classes=classes, val_fraction=0.5)
        messages.refusal(lambda data=data: data.split("val")[0], "edges", "nearest-neighbor", "data.other=ignore")
    data = Folder(tmp_path / "1", objects="classes", val_fraction=1)
    messages.refusal(lambda: data.split("val"), " 2 colors", "edges", "class_1: [0, 128, 0], class_2: [128, 0, 0]}")
    sample = Folder(tmp_path / "1", objects="classes", classes=classes, other="ignore", val_fraction=1).split("val")[0]
    assert sample.labels.tolist() == [1, 2]
    assert sample.ignore.any()


@pytest.mark.parametrize("colors", [False, True])
def test_blended_edges_are_warned_of_where_they_are_background(messages, tmp_path, colors):
    drawn = np.zeros((64, 64), np.uint8)
    cv2.circle(drawn, (20, 20), 12, 80, -1)
    cv2.circle(drawn, (45, 45), 12, 240, -1)
    classes = {"crop": [80, 0, 0], "weed": [240, 0, 0]} if colors else {"crop": 80, "weed": 240}
    encode = (lambda ids: np.dstack([ids, ids * 0, ids * 0])) if colors else (lambda ids: ids)
    path = save(tmp_path / "soft.png", encode(cv2.GaussianBlur(drawn, (5, 5), 0)))
    messages.refusal(lambda: read_class_mask(path, ClassMap.from_config(classes)), "soft.png: ", "blended")
    others = ClassMap.from_config(classes, other="background")
    assert read_class_mask(path, others)[2] == (BLENDED,)
    assert not read_class_mask(save(tmp_path / "sharp.png", encode(drawn)), others)[2]
    # another class, and thin lines of two more
    drawn[2:4], drawn[6, ::2], drawn[60] = 7, 8, 9
    assert not read_class_mask(save(tmp_path / "more.png", encode(drawn)), others)[2]


@pytest.mark.parametrize("other", ["background", "ignore"])
def test_a_picture_is_no_mask_of_few_classes(messages, tmp_path, other):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 200, (64, 64), np.uint8))
    classes = ClassMap.from_config({"crop": 80}, other=other)
    messages.refusal(lambda: read_class_mask(path, classes), "a.png: ", "swapped")


def test_an_id_outside_the_table_is_refused_with_its_number_of_pixels(messages, tmp_path):
    split = folder(tmp_path, IDS, {"crop": 1})
    facts = (f"masks/{split.names[0]}.png: ", "2 (6 pixel", "3 (1 pixel", "data.classes", "crop 1", "data.ignore_index")
    messages.refusal(lambda: split[0], *facts)


def test_a_color_outside_the_table_is_refused_with_its_number_of_pixels(messages, tmp_path):
    for mask in (colored(IDS), indexed(IDS)):
        split = folder(tmp_path, mask, {"crop": [0, 128, 0], "weed": [128, 0, 0]})
        with messages.raises(DataError, "[255, 255, 0] (1 pixel", "data.classes", "crop [0, 128, 0], weed"):
            split[0]


def test_ids_and_colors_are_not_taken_for_each_other(messages, tmp_path):
    split = folder(tmp_path / "rgb", colored(IDS), BY_ID)
    with messages.raises(DataError, "masks/", ".png: "):
        split[0]
    split = folder(tmp_path / "ids", IDS, BY_COLOUR)
    with messages.raises(DataError, "[1, 1, 1] (5 pixel", "[2, 2, 2] (6"):
        split[0]


def test_classes_in_a_jpeg_are_refused(messages, tmp_path):
    for classes in (BY_ID, BY_COLOUR):
        split = folder(tmp_path, colored(IDS), classes, suffix="jpg")
        with messages.raises(DataError, ".jpg: "):
            split[0]
