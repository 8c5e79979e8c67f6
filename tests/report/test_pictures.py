import numpy as np
import torch
from PIL import Image

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Box
from sam_ft.report import objects
from sam_ft.report.objects import draw_worst_and_best
from sam_ft.report.pictures import draw_masks, draw_prompts, save_sheet, stretch_contrast
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prompts
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def ramp(top):
    """(3, 1, 101) with values from 0 to `top` in equal steps."""
    return torch.linspace(0, top, 101).round().to(torch.uint8).expand(3, 1, 101)


def test_a_dark_image_is_stretched_between_its_1st_and_99th_percentile():
    bright = stretch_contrast(ramp(50))  # percentiles 0.5 rounds to 0, 49.5 to 50; halves go to even
    assert bright.dtype == torch.uint8
    assert (bright[0, 0, 0], bright[0, 0, 50], bright[0, 0, 100]) == (0, 128, 255)  # 255 · 25 / 50 = 127.5


def test_a_few_hot_and_dead_pixels_do_not_matter():
    values = torch.tensor([0] * 5 + [20] * 495 + [40] * 495 + [255] * 5, dtype=torch.uint8)
    assert stretch_contrast(values.expand(3, 1, 1000))[2, 0, [0, 5, 994, 999]].tolist() == [0, 0, 255, 255]


def test_all_channels_are_stretched_alike_so_that_colors_stay():
    green = torch.zeros(3, 10, 10, dtype=torch.uint8)
    green[1] = 60
    assert stretch_contrast(green).flatten(1).unique(dim=1).flatten().tolist() == [0, 255, 0]


def test_a_bright_image_stays_as_it_is():
    assert torch.equal(stretch_contrast(ramp(200)), ramp(200))


def test_an_image_of_one_value_survives():
    assert stretch_contrast(torch.full((3, 4, 4), 7, dtype=torch.uint8)).max() == 0


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


def test_a_single_object_is_shown_once(tmp_path, monkeypatch):
    assert list(sheet(tmp_path, monkeypatch, [1], 8)) == ["lowest IoU"]


def test_a_box_has_the_color_of_its_object_in_any_group():
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    boxes = torch.tensor([[2.0, 2, 12, 12], [20, 2, 32, 12], [2, 20, 12, 32]])
    together = draw_prompts(image, [(torch.arange(3), Prompts(boxes=boxes))])
    apart = draw_prompts(
        image, [(torch.tensor([0, 2]), Prompts(boxes=boxes[[0, 2]])), (torch.tensor([1]), Prompts(boxes=boxes[1:2]))]
    )
    assert torch.equal(together, apart)
    assert len({tuple(together[:, y, x].tolist()) for x, y in ((2, 2), (20, 2), (2, 20))}) == 3


def test_points_of_the_object_are_green_and_of_the_background_red_and_padding_is_not_drawn():
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    points, labels = torch.tensor([[[10.0, 10], [30, 10], [10, 30]]]), torch.tensor([[1, 0, -1]])
    drawn = draw_prompts(image, [(torch.arange(1), Prompts(points=points, point_labels=labels))])
    red, green = drawn[0], drawn[1]
    assert green[10, 10] > red[10, 10]
    assert red[10, 30] > green[10, 30]
    assert not drawn[:, 25:].any()
