import numpy as np
import torch
from PIL import Image

from sam_ft.report.pictures import draw_masks, draw_prompts, save_sheet, stretch_contrast
from sam_ft.types import Prompts


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


def test_a_box_has_the_color_of_its_object_in_any_group():
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    boxes = torch.tensor([[2.0, 2, 12, 12], [20, 2, 32, 12], [2, 20, 12, 32]])
    together = draw_prompts(image, [(torch.arange(3), Prompts(boxes=boxes))])
    apart = draw_prompts(
        image, [(torch.tensor([0, 2]), Prompts(boxes=boxes[[0, 2]])), (torch.tensor([1]), Prompts(boxes=boxes[1:2]))]
    )
    assert torch.equal(together, apart)
    assert len({tuple(together[:, y, x].tolist()) for x, y in ((2, 2), (20, 2), (2, 20))}) == 3


def test_masks_drawn_in_parts_have_the_colors_of_the_whole():
    image, masks = torch.full((3, 40, 40), 100, dtype=torch.uint8), torch.zeros(3, 40, 40, dtype=torch.bool)
    masks[0, 2:12, 2:12] = masks[1, 20:40, 30:40] = masks[2, 20:30, 2:12] = True
    whole = draw_masks(image, masks)
    parts = draw_masks(draw_masks(image, masks[[2, 0]], indices=[2, 0]), masks[1:2], indices=[1])
    assert torch.equal(whole, parts)
    outlines = whole[:, [2, 39, 20], [2, 39, 2]].T.tolist()
    assert len(set(map(tuple, outlines))) == 3
    assert outlines[0] != whole[:, 5, 5].tolist() != [100] * 3  # inside, both colors mix
    assert torch.equal(draw_masks(image, masks[:0]), image)


def test_points_of_the_object_are_green_and_of_the_background_red_and_padding_is_not_drawn():
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    points, labels = torch.tensor([[[10.0, 10], [30, 10], [10, 30]]]), torch.tensor([[1, 0, -1]])
    drawn = draw_prompts(image, [(torch.arange(1), Prompts(points=points, point_labels=labels))])
    red, green = drawn[0], drawn[1]
    assert green[10, 10] > red[10, 10]
    assert red[10, 30] > green[10, 30]
    assert not drawn[:, 25:].any()


ROBOFLOW = "2023_03_14_plate_B07_field_12_png.rf.0123456789abcdef0123456789abcdef"


def test_long_titles_of_panels_beside_each_other_do_not_meet(tmp_path):
    """Ink of a title stays inside its panel: there is a gap of white between two panels."""
    panel = torch.zeros(3, 40, 40, dtype=torch.uint8)
    save_sheet(tmp_path / "sheet.png", {"": [[(f"{ROBOFLOW}: prompt", panel), (f"{ROBOFLOW}: gt", panel)]]}, 2.4)
    with Image.open(tmp_path / "sheet.png") as file:
        sheet = np.asarray(file.convert("L"))
    titles = sheet[:20]  # above the panels
    assert (titles < 128).any()
    middle = titles.shape[1] // 2
    assert (titles[:, middle - 4 : middle + 4] > 200).all()
