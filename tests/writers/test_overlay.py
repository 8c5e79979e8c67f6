import numpy as np
import torch
from PIL import Image

from sam_ft.report.pictures import draw_masks
from sam_ft.writers import overlay
from sam_ft.writers.overlay import write_overlay
from tests.support.instances import hard_masks, make_instances, no_masks


def read(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_the_picture_is_that_of_the_report(tmp_path):
    instances = make_instances(tmp_path)
    write_overlay(tmp_path / "o.png", instances)
    by_class = draw_masks(instances.image, torch.from_numpy(hard_masks()), indices=instances.class_places)
    assert torch.equal(read(tmp_path / "o.png"), by_class)


def test_objects_of_one_class_have_a_color_each(tmp_path):
    instances = make_instances(tmp_path, masks=hard_masks()[4:6], labels=torch.tensor([2, 2]), classes={2: "nucleus"})
    write_overlay(tmp_path / "o.png", instances)
    assert torch.equal(read(tmp_path / "o.png"), draw_masks(instances.image, torch.from_numpy(hard_masks()[4:6])))


def test_without_objects_the_picture_is_the_image(tmp_path):
    instances = make_instances(tmp_path, masks=no_masks())
    write_overlay(tmp_path / "o.png", instances)
    assert torch.equal(read(tmp_path / "o.png"), instances.image)


def test_a_large_image_is_reduced_with_its_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay, "STRIP_PIXELS", 300)  # several strips
    masks = np.zeros((1, 41, 61), bool)
    masks[0, 7, 6:39] = masks[0, 9:31:3, 6:39] = True  # of the rows below 7 only those that are drawn
    image = torch.arange(41 * 61).reshape(41, 61).remainder(100).add(120).to(torch.uint8).expand(3, 41, 61)
    instances = make_instances(tmp_path, masks=masks, image=image)
    write_overlay(tmp_path / "o.png", instances, max_side=30)  # a third
    picture = read(tmp_path / "o.png")
    assert picture.shape == (3, 14, 21)
    assert picture[0, 0, 0] == image[0, :3, :3].float().mean().round()
    assert picture[0, 13, 20] == image[0, 39:, 60:].float().mean().round()  # what is left of the last square
    gray = picture.float().std(0) == 0
    y, x = torch.nonzero(~gray).T
    # rows 9, 12, ... 30 and columns 6, 9, ... 36 of the image
    assert (y.min(), y.max(), x.min(), x.max()) == (3, 10, 2, 12)


def test_a_reader_of_windows_serves_as_an_image(tmp_path):
    instances = make_instances(tmp_path)
    write_overlay(tmp_path / "whole.png", instances)

    class Window:
        def __getitem__(self, window):
            assert all(isinstance(part, slice) for part in window)
            return instances.image[window]

    write_overlay(tmp_path / "windows.png", make_instances(tmp_path, image=Window()))
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "windows.png").read_bytes()
