import logging
import pickle
import time

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.io.objects import ids_to_masks, label_components
from sam_ft.data.sources.folder import Folder
from sam_ft.types import dense
from tests.support.files import MASK, ORIENTATION, make, save

IDS = np.where(MASK, np.arange(8, dtype=np.uint8) // 4 + 1, 0).astype(np.uint16) * 300


def test_a_sample_holds_image_and_mask_of_one_name(tmp_path):
    split = Folder(make(tmp_path)).split("train")
    sample = split[2]
    assert sample.name == split.names[2]
    assert sample.image.shape == (3, 6, 8)
    assert sample.image.dtype == torch.uint8
    assert sample.image.unique().tolist() == [ord(sample.name)]
    assert sample.size == (6, 8)
    assert torch.equal(dense(sample.masks), torch.from_numpy(MASK > 0)[None])
    assert sample.labels.tolist() == [1]
    assert sample.object_index.tolist() == [0]


def test_components_are_objects_and_specks_are_dropped(tmp_path):
    make(tmp_path)
    sample = Folder(tmp_path, objects="components", min_area=2).split("train")[0]
    assert dense(sample.masks).sum((1, 2)).tolist() == [6, 6]
    assert dense(sample.masks)[0, 1, 1]
    assert dense(sample.masks)[1, 5, 7]
    assert len(Folder(tmp_path, objects="components", min_area=1).split("train")[0].masks) == 3
    assert len(Folder(tmp_path, objects="components", min_area=7).split("train")[0].masks) == 0


def test_pixels_that_touch_at_a_corner_are_one_component():
    masks, labels = ids_to_masks(label_components(np.eye(3, dtype=bool), min_area=1))
    assert masks.shape == (1, 3, 3)
    assert labels.tolist() == [1]


def test_instance_ids_are_objects_and_labels(tmp_path):
    make(tmp_path, mask=IDS, masks="ids")
    sample = Folder(tmp_path, mask_folder="ids", objects="instances").split("val")[0]
    assert sample.labels.tolist() == [300, 600]
    assert torch.equal(dense(sample.masks)[1], torch.from_numpy(IDS == 600))
    assert sample.object_index.tolist() == [0, 1]


@pytest.mark.parametrize("objects", ["whole", "components", "instances"])
def test_an_empty_mask_is_an_image_without_objects(tmp_path, objects):
    sample = Folder(make(tmp_path, mask=MASK * 0), objects=objects).split("train")[0]
    assert dense(sample.masks).shape == (0, 6, 8)
    assert sample.labels.shape == sample.object_index.shape == (0,)
    assert dense(sample.masks).dtype == torch.bool
    assert sample.labels.dtype == torch.int64


def test_two_hundred_objects_of_a_large_image_are_cut_quickly():
    ids = np.kron(np.arange(225, dtype=np.uint16).reshape(15, 15), np.ones((84, 84), np.uint16))
    start = time.process_time()
    masks, labels = ids_to_masks(ids)
    assert time.process_time() - start < 2
    assert masks.shape == (224, 1260, 1260)
    assert labels.tolist() == list(range(1, 225))
    assert (masks.sum((1, 2)) == 84 * 84).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500)])
def test_tiny_and_thin_images_are_read(tmp_path, size):
    for name in "abcdef":
        save(tmp_path / "images" / f"{name}.png", np.zeros(size, np.uint8))
        save(tmp_path / "masks" / f"{name}.png", np.full(size, 255, np.uint8))
    assert dense(Folder(tmp_path, val_fraction=0.5).split("train")[0].masks).shape == (1, *size)


def test_nothing_is_decoded_before_it_is_asked_for(messages, tmp_path):
    make(tmp_path)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"broken")
    split = Folder(tmp_path).split("train")
    messages.refusal(lambda: split[0], split.names[0])


def test_a_mask_of_another_size_is_refused_with_both_sizes(messages, tmp_path):
    split = Folder(make(tmp_path, mask=np.zeros((3, 4), np.uint8))).split("train")
    name = f"{split.names[0]}.png"
    messages.refusal(lambda: split[0], f"masks/{name}: ", "4 x 3 pixels", f" {name} ", "8 x 6")


def test_a_transposed_mask_has_its_own_hint(messages, tmp_path):
    split = Folder(make(tmp_path, mask=MASK.T.copy())).split("train")
    messages.refusal(lambda: split[0], "6 x 8 pixels", "90 degrees", "EXIF orientation")


def test_lossy_masks_are_told_once(messages, tmp_path, caplog):
    split = Folder(make(tmp_path, mask=np.kron(MASK, np.ones((1, 1), np.uint8)), suffix="jpg", quality=80)).split(
        "train"
    )
    with caplog.at_level(logging.WARNING, "sam_ft"):
        masks = [split[index].masks for index in range(len(split))]
    messages.logged(caplog, f"{split.names[0]}.jpg ")
    assert torch.equal(dense(masks[0])[0], torch.from_numpy(MASK > 0))


def test_a_survey_counts_objects_empty_images_and_lossy_masks(messages, tmp_path, caplog):
    make(tmp_path, "abc")
    make(tmp_path, "de", mask=MASK * 0)
    make(tmp_path, "fgh", suffix="jpg", quality=80)
    (tmp_path / "train.txt").write_text("a\nb\nd\ne\nf\ng\nh")
    (tmp_path / "val.txt").write_text("c")
    split = Folder(tmp_path, objects="components", min_area=2).split("train")
    with caplog.at_level(logging.WARNING, "sam_ft"):
        survey = split.survey()
        pickle.loads(pickle.dumps(split))[4]  # a worker's copy knows that it is among the hints
    assert (survey.images, survey.objects, survey.empty, survey.lossy) == (7, 10, ["d", "e"], 3)
    (hint,) = survey.hints
    messages.check("; ".join(hint), "3 of 7 masks", "f.jpg", "warning")
    assert not caplog.messages


def test_a_survey_lists_all_files_that_cannot_be_used(messages, tmp_path):
    make(tmp_path)
    (tmp_path / "train.txt").write_text("a\nb\nc\nd")
    (tmp_path / "val.txt").write_text("e")
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    save(tmp_path / "masks" / "b.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    save(tmp_path / "masks" / "c.png", MASK.T.copy())
    first, second, third = messages.refusal(Folder(tmp_path).split("train").survey).split("\n")
    assert "a.png: " in first
    assert "b.png: " in second
    assert "0, 1, 2" in second
    assert "c.png: " in third
    assert "6 x 8 pixels" in third


def write_lists(root, train, val):
    (root / "train.txt").write_text("\n".join(train))
    (root / "val.txt").write_text("\n".join(val))
    return root


def damaged(root, count, bad, **options):
    """A folder whose train split has `count` images, of which `bad` are cut off in their pixels."""
    names = [f"n{number:03d}" for number in range(count)]
    write_lists(make(root, [*names, "v"]), names, "v")
    for name in names[:bad]:
        (root / "images" / f"{name}.png").unlink()
        path = save(root / "images" / f"{name}.jpg", np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8))
        path.write_bytes(path.read_bytes()[:-60])  # the header is whole
    return Folder(root, **options).split("train")


def test_bad_files_are_left_out_if_they_are_to_be_skipped(messages, tmp_path, caplog):
    split = damaged(tmp_path, 5, 1, on_bad="skip")
    with caplog.at_level(logging.WARNING, "sam_ft"):
        survey = split.survey()
    assert (survey.images, survey.objects, survey.bad) == (4, 4, ["n000"])
    messages.logged(caplog, "1 of 5 images", "data.on_bad=skip", "n000.jpg: ")
    left = split.without(survey.bad)
    assert left.names == ["n001", "n002", "n003", "n004"]
    assert [sample.name for sample in left] == left.names
    assert left.survey().bad == []


@pytest.mark.parametrize(("count", "allowed"), [(2, 1), (199, 1), (200, 2), (300, 3)])
def test_more_than_one_percent_of_bad_files_stops(messages, tmp_path, count, allowed):
    assert len(damaged(tmp_path / "some", count, allowed, on_bad="skip").survey().bad) == allowed
    facts = [f"  {allowed + 1} files in {tmp_path}/more/images:", " n000.jpg", f"{allowed + 1} of {count} images"]
    messages.refusal(damaged(tmp_path / "more", count, allowed + 1, on_bad="skip").survey, *facts)


def test_bad_masks_and_sizes_are_skipped_too(tmp_path):
    names = [f"n{number:03d}" for number in range(300)]
    write_lists(make(tmp_path, [*names, "v"]), names, "v")
    (tmp_path / "masks" / "n000.png").write_bytes(b"")
    save(tmp_path / "masks" / "n001.png", MASK.T.copy())
    (tmp_path / "images" / "n002.png").write_bytes(b"<html>")
    assert Folder(tmp_path, on_bad="skip").split("train").survey().bad == ["n000", "n001", "n002"]


def test_a_split_without_some_samples_keeps_its_classes_and_what_it_told(tmp_path, caplog):
    make(tmp_path, "abcd", suffix="jpg", quality=80)
    split = Folder(write_lists(tmp_path, "abc", "d")).split("train")
    with caplog.at_level(logging.WARNING, "sam_ft"):
        hints = split.survey().hints
        split.without(["b"])[1]
    assert [hint.problem.partition(", ")[0] for hint in hints] == ["3 of 3 masks are lossy"]
    assert not caplog.messages


def test_floats_are_looked_through_before_training(messages, tmp_path):
    make(tmp_path, "abcd")
    for name in "ab":
        (tmp_path / "images" / f"{name}.png").unlink()
        save(tmp_path / "images" / f"{name}.tif", np.full((6, 8), np.nan if name == "b" else 1, np.float32))
    split = Folder(write_lists(tmp_path, "abc", "d")).split("train")
    assert "a.tif" not in messages.refusal(split.survey, "b.tif: ", "48", "NaN")


def test_how_more_than_8_bits_are_scaled_is_said_once(messages, tmp_path, caplog):
    make(tmp_path, "abcd")
    for name in "bc":
        save(tmp_path / "images" / f"{name}.png", np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000)
    split = Folder(write_lists(tmp_path, "abc", "d"), intensity="range").split("train")
    with caplog.at_level(logging.INFO, "sam_ft"):
        split.survey()
    messages.logged(caplog, "2 of 3 images", "b.png (uint16)", "data.intensity=range")
    assert split[1].image[0, 0, :3].tolist() == [0, 5, 11]  # 255 / 47 = 5.43 a step


def test_a_page_is_chosen_for_images_and_masks_alike(messages, tmp_path):
    pages = [Image.fromarray(np.full((6, 8), value, np.uint8)) for value in (10, 20)]
    for name in "abcd":
        save(tmp_path / "images" / f"{name}.tif", pages[0], save_all=True, append_images=pages[1:])
        save(tmp_path / "masks" / f"{name}.png", MASK)
    lists = write_lists(tmp_path, "abc", "d")
    messages.refusal(Folder(lists).split("train").survey, "2 pages", "\n  3 files in ", "images: a.tif")
    split = Folder(lists, page=1).split("train")
    assert split.survey().objects == 3
    assert split[0].image.unique().tolist() == [20]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_lie_as_the_whole_sample_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for name in "abcd":
        save(tmp_path / "images" / f"{name}.tif", MASK, exif=exif)
        save(tmp_path / "masks" / f"{name}.png", MASK, exif=exif)
    split = Folder(write_lists(tmp_path, "abc", "d")).split("train")
    sample, annotations = split[0], split.annotations(0)
    assert sample.size == annotations.size == dense(sample.masks).shape[1:]
    assert torch.equal(dense(sample.masks), dense(annotations.masks))
    assert torch.equal(dense(sample.masks)[0], sample.image[0] > 0)


@pytest.mark.parametrize("name", ["a b", "a=1", "a#1", "a,b", "a(1)", "ä", "a'b", "a%20b", "~a"])
def test_names_of_all_kinds_are_read(tmp_path, name):
    root = make(tmp_path / name, [name, "v"])
    split = Folder(write_lists(root, [name], ["v"])).split("train")
    assert split.names == [name]
    assert len(split[0].masks) == 1
