import numpy as np
import pytest
import torch

from sam_ft import Predictor
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.evaluation.prompted import decode_prompts
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Prompts
from sam_ft.utils.geometry import masks_to_boxes
from sam_ft.utils.tiles import TileGrid
from tests.evaluation.test_tiled_maps import smooth_image
from tests.support.tiny import tiny_sam

IMAGE = smooth_image(90, 130)
BOXES = torch.tensor([[3.0, 4, 30, 28], [80, 50, 120, 88], [10, 10, 125, 85]])  # the last is larger than a tile


def decoded(prompts, tile, image=IMAGE):
    grid = TileGrid(image.shape[:2], tile)
    found = list(decode_prompts(PromptedSegmentation(tiny_sam()), ArrayWindows(image), grid, prompts))
    masks = {one.position: np.zeros(image.shape[:2], bool) for one in found}
    for one in found:
        masks[one.position][one.y0 : one.y0 + one.mask.shape[0], one.x0 : one.x0 + one.mask.shape[1]] = one.mask
    return masks, {one.position: one.pred_iou for one in found}


@pytest.mark.parametrize(
    "prompts",
    [
        {"boxes": BOXES},
        {"points": BOXES.reshape(3, 2, 2), "point_labels": torch.tensor([[1, 0]] * 3)},
        {"boxes": BOXES, "points": BOXES[:, None, :2], "point_labels": torch.ones(3, 1)},
    ],
)
def test_in_one_tile_the_masks_are_those_of_the_predictor(prompts):
    masks, pred_iou = decoded(Prompts(**prompts), tile=130)
    expected, scores, _ = Predictor(tiny_sam()).predict(IMAGE, **{name: one.numpy() for name, one in prompts.items()})
    assert expected[:, 0].any()
    for position, mask in enumerate(expected[:, 0]):
        assert np.array_equal(masks[position], mask) if mask.any() else position not in masks
        assert not mask.any() or pred_iou[position] == pytest.approx(scores[position, 0])


def test_an_object_is_decoded_in_the_tile_that_shows_it_and_a_larger_one_in_a_window_around_it():
    masks, _ = decoded(Prompts(boxes=BOXES), tile=64)
    predictor = Predictor(tiny_sam())
    rows, columns = list(TileGrid(IMAGE.shape[:2], 64))[-1]
    origin = np.array([columns.start, rows.start] * 2)
    expected = np.zeros(IMAGE.shape[:2], bool)
    expected[rows, columns] = predictor.predict(IMAGE[rows, columns].copy(), boxes=[BOXES[1].numpy() - origin])[0][0, 0]
    assert expected.any()
    assert np.array_equal(masks[1], expected)
    # 1.5 times as wide as the box, which is the whole image here
    whole = predictor.predict(IMAGE, boxes=BOXES[2:].numpy())[0][0, 0]
    assert whole.any()
    assert np.array_equal(masks[2], whole)


def test_the_window_of_an_object_larger_than_a_tile_depends_on_the_object_and_not_on_the_image():
    image, box = smooth_image(90, 400), np.array([250.0, 20, 310, 40])
    masks, _ = decoded(Prompts(boxes=torch.from_numpy(box).float()[None]), tile=40, image=image)
    window = slice(235, 325)  # 1.5 x 60 px around the center of the box at x = 280
    expected = np.zeros(image.shape[:2], bool)
    own = image[:, window].copy()
    expected[:, window] = Predictor(tiny_sam()).predict(own, boxes=[box - (235, 0, 235, 0)])[0][0, 0]
    assert expected.any()
    assert np.array_equal(masks[0], expected)


def test_few_masks_of_a_large_window_are_made_at_a_time(monkeypatch):
    expected, _ = decoded(Prompts(boxes=BOXES.repeat(3, 1)), tile=130)
    sizes = []
    monkeypatch.setattr("sam_ft.evaluation.prompted.PIXELS_PER_PASS", 2 * IMAGE.shape[0] * IMAGE.shape[1])
    monkeypatch.setattr(
        "sam_ft.evaluation.prompted.masks_to_boxes", lambda masks: sizes.append(len(masks)) or masks_to_boxes(masks)
    )
    masks, _ = decoded(Prompts(boxes=BOXES.repeat(3, 1)), tile=130)
    assert sizes == [2, 2, 2, 2, 1]
    assert all(np.array_equal(masks[position], mask) for position, mask in expected.items())


def test_a_single_point_takes_the_best_of_three_masks():
    point, label = torch.tensor([[[60.0, 40]]]), torch.ones(1, 1)
    masks, pred_iou = decoded(Prompts(points=point, point_labels=label), tile=130)
    three, scores, _ = Predictor(tiny_sam()).predict(
        IMAGE, points=point.numpy(), point_labels=label.numpy(), multimask_output=True
    )
    assert pred_iou[0] == pytest.approx(scores.max())
    assert np.array_equal(masks[0], three[0, scores[0].argmax()])
