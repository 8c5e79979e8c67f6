"""The table of classes, data.classes: what is one, and the one that is proposed for masks without one."""

import numpy as np
import pytest

from sam_ft.data.io.classes import ClassMap
from sam_ft.data.sources.folder import Folder
from sam_ft.data.sources.table import Table
from sam_ft.types import dense
from sam_ft.utils.errors import ConfigError
from tests.data.io.test_class_masks import BY_ID, IDS, colored, folder
from tests.support.files import make, save


def test_a_missing_table_is_asked_for_with_a_line_to_paste(messages, tmp_path):
    line = "'data.classes={class_1: 1, class_2: 2, class_3: 3}'"
    messages.refusal(lambda: folder(tmp_path / "ids", IDS, None), "data.objects=classes", " 3 ", line)
    line = "'data.classes={class_1: [0, 128, 0], class_2: [128, 0, 0], class_3: [255, 255, 0]}'"
    messages.refusal(lambda: folder(tmp_path / "colors", colored(IDS), None), line)


def test_a_color_for_each_object_is_no_class_of_the_line_to_paste(messages, tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcd":
        colors = rng.integers(1, 256, (4, 3), np.uint8)
        colors[0] = 0
        save(tmp_path / "images" / f"{name}.png", np.zeros((4, 6, 3), np.uint8))
        save(tmp_path / "masks" / f"{name}.png", colors[IDS])
    data = Folder(tmp_path, objects="classes", val_fraction=1)
    messages.refusal(lambda: data.split("val"), "data.objects=instances", " 12 ")
    sample = Folder(tmp_path, objects="instances", val_fraction=1).split("val")[0]
    assert sorted(dense(sample.masks).sum((1, 2)).tolist()) == [1, 5, 6]


def test_void_is_no_class_of_the_line_to_paste(messages, tmp_path):
    void = np.where(IDS == 3, 255, IDS).astype(np.uint8)
    line = "'data.classes={class_1: 1, class_2: 2}'"
    messages.refusal(lambda: folder(tmp_path, void, None), f"{line} data.ignore_index=255", " 3 ")
    assert messages.refusal(lambda: folder(tmp_path, void, None, ignore_index=255)).endswith(line)
    # but where there is nothing else, or ids run through to it, it is one
    only = messages.refusal(lambda: folder(tmp_path / "b", void // 255 * 255, None))
    assert only.endswith("'data.classes={class_255: 255}'")
    through = np.array([[254, 255]], np.uint8)
    last = messages.refusal(lambda: folder(tmp_path / "c", through, None))
    assert last.endswith("'data.classes={class_254: 254, class_255: 255}'")


@pytest.mark.parametrize(
    ("classes", "facts"),
    [
        (["crop", "weed"], ["data.classes=[crop, weed] ", "'data.classes={crop: 1, weed: 2}'"]),
        ("crop", ["data.classes=crop ", "'data.classes={crop: 1}'"]),
        ([1, 2], ["data.classes=[1, 2] "]),
        (3, ["'data.classes={crop: 1, weed: 2}'"]),
        ([], ["'data.classes={crop: 1, weed: 2}'"]),
        ({1: "crop", 2: "weed"}, ["'data.classes={crop: 1, weed: 2}'"]),
        ({"0": "sky"}, ["data.classes={0: sky} ", "'data.classes={sky: 0}'"]),
        ({1: "crop", 2: "crop"}, ["data.classes={1: crop, 2: crop} "]),
    ],
)
def test_what_is_no_table_is_refused_with_what_to_write(messages, tmp_path, classes, facts):
    make(tmp_path)
    messages.refusal(lambda: Folder(tmp_path, objects="classes", classes=classes, ignore_index=255), *facts)
    table = tmp_path / "table.csv"
    table.write_text("image,mask,label\nimages/a.png,masks/a.png,crop\n")
    messages.refusal(lambda: Table(table, classes=classes), *facts)


@pytest.mark.parametrize(
    ("classes", "ignore", "facts"),
    [
        ({}, None, ["data.classes"]),
        ({"a": 1, "b": [1, 2, 3]}, None, ["data.classes"]),
        ({"a": 1}, [3, [1, 2, 3]], ["data.classes"]),
        ({"a": 1}, [1, 2, 3], ["data.classes.a", "data.ignore_index.0", " 1"]),
        ({"a": [1, 2, 3]}, 255, ["data.classes"]),
        ({"a": 1, "b": 1}, None, ["data.classes.a", "data.classes.b", " 1"]),
        ({"a": 1, "b": 255}, 255, ["data.classes.b", "data.ignore_index", " 255"]),
        ({"a": -1}, None, ["data.classes.a=-1;", "0 to 65535"]),
        ({"a": "crop"}, None, ["data.classes.a=crop;"]),
        ({"a": 1.5}, None, ["data.classes.a=1.5;"]),
        ({"a": [1, 2]}, None, ["data.classes.a=[1, 2];"]),
        ({"a": [1, 2, 256]}, None, ["data.classes.a=[1, 2, 256];"]),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(messages, tmp_path, classes, ignore, facts):
    with messages.raises(ConfigError, *facts):
        ClassMap.from_config(classes, ignore)
    with pytest.raises(ConfigError):
        Folder(make(tmp_path), objects="classes", classes=classes, ignore_index=ignore)


def test_options_for_classes_need_classes(messages, tmp_path):
    make(tmp_path)

    def refused(*facts, **options):
        messages.refusal(lambda: Folder(tmp_path, **options), *facts)

    refused("data.classes ", "data.objects=classes", "data.objects=whole", classes=BY_ID)
    refused("data.components_per_class", "data.objects=classes", objects="components", components_per_class=True)
    refused("data.other", "data.objects=classes", objects="components", other="ignore")
    refused("data.ignore_index=[[1, 2, 3]];", "whole", ignore_index=[[1, 2, 3]])
    refused("data.background=[1, [2, 3, 4]]", "components", objects="components", background=[1, [2, 3, 4]])
    refused("data.other=drop", "error, background, ignore", objects="classes", classes=BY_ID, other="drop")
    refused("data.page=-1;", page=-1)
    refused("data.on_bad=drop", "stop, skip", on_bad="drop")
    refused("data.intensity=auto", "percentile, range, dtype", intensity="auto")
