import json
import shlex

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.app.saving import save_results, save_training_data, training_command
from sam_ft.cli.compose import compose
from sam_ft.data.sources.folder import Folder
from sam_ft.types import dense
from tests.support.instances import hard_masks, make_instances, no_masks

APART = [0, 1, 2, 3, 4, 5, 6, 7, 9]  # of hard_masks, which do not overlap


def test_results_are_those_of_predict_and_the_file_of_all_images_holds_each_that_was_saved(tmp_path):
    out = tmp_path / "results"
    for name, count in (("b", 3), ("sub/a", 2), ("b", 4)):  # b is saved twice
        save_results(out, ["labels", "coco", "table"], make_instances(tmp_path, name, hard_masks()[:count]))
    assert np.unique(tifffile.imread(out / "labels/b.tif")).tolist() == [0, 1, 2, 3, 4]
    together = json.loads((out / "coco.json").read_text())
    assert sorted(image["file_name"] for image in together["images"]) == ["b.png", "sub/a.png"]
    assert len(together["annotations"]) == 6
    assert len((out / "table.csv").read_text().splitlines()) == 7


def test_training_data_are_read_back_with_equal_masks_and_the_same_pixels(tmp_path):
    masks = hard_masks()[APART]
    for name in ("a", "sub/b"):
        save_training_data(tmp_path / "training", make_instances(tmp_path, name, masks), by_class=False)
    folder = Folder(tmp_path / "training", objects="instances")
    samples = [*folder.split("train"), *folder.split("val")]
    assert sorted(sample.name for sample in samples) == ["a", "sub_b"]
    for sample in samples:
        assert np.array_equal(dense(sample.masks).numpy(), masks)
        original = tmp_path / (sample.name.replace("_", "/") + ".png")
        assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), np.asarray(Image.open(original)))


def test_later_masks_lie_on_top_in_training_data(tmp_path):
    masks = hard_masks()
    for order in ([6, 8], [8, 6]):  # border and disc overlap
        given = make_instances(tmp_path, "a", masks[order], scores=[0.9, 0.1])
        save_training_data(tmp_path / "training", given, by_class=False)
        ids = tifffile.imread(tmp_path / "training/masks/a.tif")
        assert (ids[masks[order[1]]] == 2).all()
        assert (ids[masks[order[0]] & ~masks[order[1]]] == 1).all()


def test_masks_by_class_are_read_back_with_their_classes(tmp_path):
    masks = hard_masks()[APART]
    for name in "ab":
        given = make_instances(tmp_path, name, masks, classes={2: "nucleus", 5: "cell"})
        save_training_data(tmp_path / "training", given, by_class=True)
    names = {"nucleus": 2, "cell": 5}
    (sample,) = Folder(tmp_path / "training", objects="classes", classes=names, min_area=0).split("val")
    for label, mask in zip(sample.labels.tolist(), dense(sample.masks).numpy(), strict=True):
        assert np.array_equal(mask, masks[(given.labels == label).numpy()].any(0))
    assert sorted(sample.labels.tolist()) == [2, 5]


def test_few_images_have_both_splits_and_new_ones_move_no_old_ones(tmp_path):
    lists = []
    for name in [*"abcdefgh", "a"]:  # a is saved twice
        save_training_data(tmp_path / "training", make_instances(tmp_path, name), by_class=False)
        lists.append([(tmp_path / f"training/{which}.txt").read_text().split() for which in ("train", "val")])
    assert lists[1] == [["a"], ["b"]]
    assert lists[7] == lists[8] == [["a", "c", "d", "e", "f", "h"], ["b", "g"]]


def test_an_image_without_objects_is_training_data_too(tmp_path):
    save_training_data(tmp_path / "training", make_instances(tmp_path, "a", no_masks()), by_class=False)
    assert not tifffile.imread(tmp_path / "training/masks/a.tif").any()


def test_another_image_of_the_same_name_is_not_replaced(messages, tmp_path):
    one, other = make_instances(tmp_path, "sub/a"), make_instances(tmp_path, "sub_a", no_masks((9, 9)))
    save_training_data(tmp_path / "training", one, by_class=False)
    before = tifffile.imread(tmp_path / "training/masks/sub_a.tif")
    messages.refusal(lambda: save_training_data(tmp_path / "training", other, by_class=False), "sub_a.png")
    assert np.array_equal(tifffile.imread(tmp_path / "training/masks/sub_a.tif"), before)


def test_an_image_that_training_would_not_read_is_refused(messages, tmp_path):
    given = make_instances(tmp_path, "a")
    given.path = given.path.rename(tmp_path / "a.dat")
    messages.refusal(lambda: save_training_data(tmp_path / "training", given, by_class=False), "a.dat")
    assert not (tmp_path / "training").exists()


@pytest.mark.parametrize("folder", ["outputs/cells/page/training", "/data/a b/ü (1)", "a=b,c"])
@pytest.mark.parametrize("classes", [None, {1: "crop", 7: "weed"}])
@pytest.mark.parametrize("reading", [{}, {"intensity": "percentile", "page": None}, {"intensity": "range", "page": 2}])
def test_the_command_is_one_that_hydra_reads(tmp_path, folder, classes, reading):
    command = shlex.split(training_command(tmp_path / folder, reading, classes))
    assert command[:2] == ["sam-ft", "train"]
    with compose("train", command[2:]) as cfg:
        data = cfg.data
    assert data.root == str(tmp_path / folder)
    assert data.objects == ("instances" if classes is None else "classes")
    assert data.classes == (None if classes is None else {"crop": 1, "weed": 7})
    assert (data.intensity, data.page) == (reading.get("intensity", "percentile"), reading.get("page"))
