"""Hints about the masks of a split, in the survey before training and in the check."""

import cv2
import numpy as np
import pytest

from sam_ft.check.dataset import check_dataset
from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import open_splits, survey_splits
from tests.support.files import save

CELLS = np.zeros((48, 64), np.uint16)
for number, (y, x) in enumerate([(4, 5), (6, 40), (25, 20)], 1):
    CELLS[y : y + 14, x : x + 15] = number
BORDER = np.zeros_like(CELLS, bool)
BORDER[3:5, 4:22] = True


def folder(root, masks, **options):
    """Images of their own, with these masks in turn."""
    for place, name in enumerate("abcdefgh"):
        rng = np.random.default_rng(place)
        save(root / "images" / f"{name}.png", rng.integers(0, 255, (*CELLS.shape, 3), np.uint8))
        mask = masks[place % len(masks)]
        save(root / "masks" / f"{name}.png", mask.astype(np.uint8 if mask.max() < 256 else np.uint16))
    (root / "train.txt").write_text("a b c d".replace(" ", "\n"))
    (root / "val.txt").write_text("e f g h".replace(" ", "\n"))
    return Folder(root, **options)


def hints_of(data, caplog):
    """The hints of the survey and of the check, which are the same for both splits."""
    found = data.split("train").survey().hints
    with caplog.at_level("INFO", "sam_ft"):
        survey_splits(*open_splits(data))
    for hint in found:  # once for both splits
        assert caplog.text.count(hint.advice) == 1
    issues = [issue for issue in check_dataset(data, 256).issues if issue.kind == "data set"]
    assert {(issue.location, issue.advice, issue.level) for issue in issues} == {
        (split, hint.advice, hint.level) for hint in found for split in ("train", "val")
    }
    return found


FRAMED = {  # masks, settings, facts of the advice
    "inverted": ([255 * (CELLS == 0)], {}, ["data.invert=true", "data.ignore_index", "alpha"]),
    "inverted components": ([255 * (CELLS == 0)], {"objects": "components"}, ["data.invert=true"]),
    "mostly inverted": ([255 * (CELLS == 0)] * 3 + [255 * (CELLS > 0)], {}, ["data.invert=true"]),
    "inverted by the setting": ([255 * (CELLS > 0)], {"invert": True}, ["data.invert=false"]),
    "full": ([CELLS * 0 + 1], {}, ["data.invert=true", "alpha"]),
    "an id that fills the frame": ([np.where(CELLS, CELLS, 7 * (np.indices(CELLS.shape)[1] != 30))],
                                   {"objects": "instances"}, ["data.ignore_index", "data.classes"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMED)
def test_objects_that_fill_the_frame_in_most_masks_are_warned_of(messages, tmp_path, caplog, kind):
    masks, options, facts = FRAMED[kind]
    (hint,) = hints_of(folder(tmp_path, masks, **options), caplog)
    assert hint.level == "warning"
    messages.check("; ".join(hint), "whole frame", *facts)


def test_many_objects_all_over_the_frame_are_one_warning_with_their_own_reason(tmp_path, caplog):
    mask = np.zeros_like(CELLS)
    mask[:6, :6] = mask[-6:, -6:] = mask[20:26, 20:26] = 1
    (hint,) = hints_of(folder(tmp_path, [mask]), caplog)
    assert "data.objects=components" in hint.advice


def test_one_mask_of_each_image_that_fills_the_frame_is_warned_of(tmp_path, caplog):
    data = folder(tmp_path, [255 * (CELLS == 1)], mask_suffix="_*")
    for name in "abcdefgh":
        (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}_cell.png")
        for other, mask in (("rest", CELLS == 2), ("background", CELLS == 0)):
            save(tmp_path / "masks" / f"{name}_{other}.png", 255 * mask.astype(np.uint8))
    (hint,) = hints_of(data, caplog)
    assert "4 of 4 images" in hint.problem
    assert "data.mask_suffix" in hint.advice


def test_a_copy_of_a_mask_beside_it_is_warned_of(messages, tmp_path, caplog):
    data = folder(tmp_path, [255 * (CELLS == 1)], mask_suffix="_mask")
    for name in "abcdefgh":
        mask = (tmp_path / "masks" / f"{name}.png").rename(tmp_path / "masks" / f"{name}_mask.png")
        cell = 1 if name in "adeh" else 2
        save(mask.with_name(f"{name}_mask (1).png"), 255 * np.equal(CELLS, cell).astype(np.uint8))
    (hint,) = hints_of(data, caplog)
    messages.check("; ".join(hint), "2 of 4 images", "twice")


def test_a_frame_in_few_masks_is_no_surprise(tmp_path, caplog):
    one = CELLS == 1
    assert not hints_of(folder(tmp_path, [CELLS * 0 + 1, one, one, one]), caplog)
    assert not hints_of(folder(tmp_path / "b", [one, CELLS * 0]), caplog)


@pytest.mark.parametrize("void", [254, 255, 65535])
def test_a_void_id_is_warned_of(messages, tmp_path, caplog, void):
    masks = [np.where(BORDER, void, CELLS), np.where(BORDER, void, CELLS * (CELLS < 2))]
    (hint,) = hints_of(folder(tmp_path, masks, objects="instances"), caplog)
    messages.check("; ".join(hint), f"data.ignore_index={void}", "warning", f"4 of 4 masks hold the id {void}")
    assert not hints_of(folder(tmp_path, masks, objects="instances", ignore_index=void), caplog)


@pytest.mark.parametrize("border", [127, 128])
def test_the_border_of_a_trimap_is_warned_of(messages, tmp_path, caplog, border):
    mask = np.where(BORDER, border, 255 * (CELLS == 1))
    (hint,) = hints_of(folder(tmp_path, [mask], objects="instances"), caplog)
    messages.check("; ".join(hint), f"data.ignore_index={border}", "warning")


def test_255_is_void_beside_254(tmp_path, caplog):
    mask = np.where(BORDER, 255, CELLS)
    mask[40:44, 40:60] = 254
    (hint,) = hints_of(folder(tmp_path, [mask], objects="instances"), caplog)
    assert "data.ignore_index=255" in hint.advice


def test_the_void_color_of_pascal_voc_is_warned_of(messages, tmp_path, caplog):
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]], np.uint8)[CELLS]
    colors[BORDER] = 224, 224, 192
    data = folder(tmp_path, [CELLS], objects="instances")
    for name in "abcdefgh":
        save(tmp_path / "masks" / f"{name}.png", colors)
    (hint,) = data.split("train").survey().hints
    messages.check("; ".join(hint), "data.ignore_index=[[224,224,192]]", "4 of 4 masks", "warning")
    (issue,) = {(one.problem, one.level) for one in check_dataset(data, 256).issues if "Pascal" in one.problem}
    assert issue[1] == "warning"
    ignored = Folder(tmp_path, objects="instances", ignore_index=[[224, 224, 192]]).split("train")
    assert not ignored.survey().hints
    assert len(ignored[0].masks) == 3


@pytest.mark.parametrize("ids", [CELLS * 80, 255 * (CELLS == 2), CELLS * 5])
def test_ids_with_blended_edges_are_warned_of(messages, tmp_path, caplog, ids):
    soft = cv2.GaussianBlur(ids.astype(np.uint8), (3, 3), 0)
    found = hints_of(folder(tmp_path, [soft, ids], objects="instances"), caplog)
    (hint,) = [hint for hint in found if "blended" in hint.advice]
    messages.check("; ".join(hint), "2 of 4 masks", "nearest-neighbor")
    assert not any("void" in hint.problem for hint in found)


def test_few_specks_and_thin_ids_are_no_blended_edges(tmp_path, caplog):
    specks, thin = CELLS.copy(), CELLS.copy()
    specks[20, 2:10:2] = 11, 12, 13, 14
    for row in range(20, 48, 4):  # as many lines as cells
        thin[row, 2:60] = row
        thin[row + 2 : row + 4, 2:60] = row + 50
    assert not hints_of(folder(tmp_path, [specks, thin], objects="instances"), caplog)


@pytest.mark.parametrize("last", [254, 255])
def test_ids_up_to_the_end_of_their_type_are_no_void(tmp_path, caplog, last):
    many = np.kron(np.arange(1, 256).reshape(15, 17), np.ones((2, 2), int)).clip(max=last)
    mask = np.zeros((48, 64), np.uint16)
    mask[5:35, 5:39] = many
    assert not hints_of(folder(tmp_path, [mask], objects="instances", min_area=1), caplog)


@pytest.mark.parametrize("value", [1, 255, 40000])
def test_a_single_id_in_several_parts_is_warned_of(messages, tmp_path, caplog, value):
    (hint,) = hints_of(folder(tmp_path, [value * (CELLS > 0)], objects="instances"), caplog)
    messages.check("; ".join(hint), "single id", "3.0 separate parts", "data.objects=components", "warning")


def test_few_ids_in_many_parts_are_warned_of_as_classes(messages, tmp_path, caplog):
    classes = CELLS.copy()
    classes[CELLS == 3] = 1
    classes[35:45, 45:60] = 2
    (hint,) = hints_of(folder(tmp_path, [classes], objects="instances"), caplog)
    messages.check("; ".join(hint), "2.0 separate parts", "data.objects=classes")
    assert not hints_of(folder(tmp_path / "b", [CELLS], objects="instances"), caplog)


TRIMAP = np.where(CELLS > 0, 1, 2)
TRIMAP[BORDER] = 3


@pytest.mark.parametrize("masks", [TRIMAP, np.where(CELLS, 2, 1), np.where(CELLS, 1, 2), CELLS + 1])
def test_ids_without_any_background_are_warned_of(messages, tmp_path, caplog, masks):
    (hint,) = hints_of(folder(tmp_path, [masks], objects="instances"), caplog)
    common = int(masks[0, 0])
    messages.check("; ".join(hint), f"id {common} is the whole frame in 4 of 4", "data.classes", "data.ignore_index")
    assert hint.level == "warning"


def test_classes_may_fill_the_frame(tmp_path, caplog):
    data = folder(tmp_path, [np.where(CELLS, 1, 2)], objects="classes", classes={"cell": 1, "soil": 2})
    assert not hints_of(data, caplog)
