import numpy as np
import torch
from PIL import Image

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Box
from sam_ft.report import objects
from sam_ft.report.objects import draw_worst_and_best
from sam_ft.report.pictures import TITLE_CHARACTERS, draw_masks, save_sheet
from sam_ft.task import PromptedSegmentation
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def test_the_interior_of_a_small_object_is_visible_inside_its_outline():
    """16 of the 5 x 5 pixels are outline; in the enlarged panel the outline is one pixel wide."""
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[20:25, 30:35] = True
    image, row = torch.full((3, 60, 60), 200, dtype=torch.uint8), {"name": "cell", "object": 3}
    (title, gt), (other, predicted) = objects._object_panels(image, mask, mask, row, iou=1.0)
    assert (title, other) == ("cell object 3: ground truth", "prediction, IoU 1.000")
    assert torch.equal(gt, predicted)
    times = 264 // 21  # a panel of 264 pixels, a cut-out of 5 + 2 · 8
    assert gt.shape == (3, 21 * times, 21 * times)
    tinted = (gt != 200).any(dim=0)
    assert tinted.sum() == (5 * times) ** 2
    blue = torch.tensor(draw_masks(image, mask[None])[:, 20, 30].tolist())[:, None, None]
    assert (gt == blue).all(dim=0).sum() == 4 * (5 * times - 1)  # a line of one pixel round a square


def test_a_long_name_leaves_room_for_the_number_of_the_object():
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[20:25, 30:35] = True
    row = {"name": "2023_plate_B07_png.rf.0123456789abcdef0123456789abcdef", "object": 103}
    (title, _), _ = objects._object_panels(torch.zeros(3, 60, 60, dtype=torch.uint8), mask, mask, row, iou=1.0)
    assert title.startswith("2023_p")
    assert title.endswith("abcdef object 103: ground truth")
    assert len(title) <= TITLE_CHARACTERS * objects.INCHES  # or `save_sheet` shortens it once more


def sheet(tmp_path, monkeypatch, counts, count):
    """The titles of the panels of the sheet, by heading."""
    shown = {}

    def keep(path, sections, inches):
        shown.update({heading: [title for row in rows for title, _ in row] for heading, rows in sections.items()})
        save_sheet(path, sections, inches)

    monkeypatch.setattr(objects, "save_sheet", keep)
    dataset = EvaluationSet(Blobs(counts), 64)
    rows = [
        {"name": f"blobs_{image}", "object": place, "zero_shot_iou": 0.1 * (place + 1)}
        for image, objects_ in enumerate(counts)
        for place in range(objects_)
    ]
    draw_worst_and_best(tmp_path / "sheet.png", PromptedSegmentation(tiny_sam()), dataset, Box(), rows, count, None)
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[1] > 400
    return shown


def test_the_sheet_separates_worst_from_best_and_gt_from_prediction(tmp_path, monkeypatch):
    assert sheet(tmp_path, monkeypatch, [4], 1) == {
        "lowest IoU": ["blobs_0 object 0: ground truth", "prediction, IoU 0.100"],
        "highest IoU": ["blobs_0 object 3: ground truth", "prediction, IoU 0.400"],
    }


def test_worst_and_best_never_share_a_row(tmp_path, monkeypatch):
    shown = sheet(tmp_path, monkeypatch, [6], 3)
    assert [title[-3:] for title in shown["lowest IoU"][1::2]] == ["100", "200", "300"]
    assert [title[-3:] for title in shown["highest IoU"][1::2]] == ["400", "500", "600"]


def test_only_the_objects_of_the_sheet_are_predicted(tmp_path, monkeypatch):
    predicted, predict = [], PromptedSegmentation.predict

    def counted(self, batch, *arguments):
        predicted.append(batch.object_index.tolist())
        return predict(self, batch, *arguments)

    monkeypatch.setattr(PromptedSegmentation, "predict", counted)
    assert len(sheet(tmp_path, monkeypatch, [9], 2)["lowest IoU"]) == 4
    assert predicted == [[0, 1, 7, 8]]


def test_a_single_object_is_shown_once(tmp_path, monkeypatch):
    assert list(sheet(tmp_path, monkeypatch, [1], 8)) == ["lowest IoU"]
