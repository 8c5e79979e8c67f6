import numpy as np
import pytest
import torch

from sam_ft.app import segmenter
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.evaluation import prompted
from sam_ft.evaluation.found import find_by_grid, find_by_head
from sam_ft.evaluation.prompted import decode_prompts
from sam_ft.models.heads import SemanticHead
from sam_ft.types import Prompts, dense
from sam_ft.utils.tiles import TileGrid
from tests.evaluation.test_tiled_maps import smooth_image
from tests.support.page import confident_sam, make_segmenter
from tests.support.tiny import tiny_sam

IMAGE = ArrayWindows(smooth_image(90, 130))
LEFT, RIGHT, LARGE = [3.0, 4, 30, 28], [80.0, 50, 120, 88], [10.0, 10, 125, 85]  # the last is larger than a tile


@pytest.fixture
def encoded(monkeypatch):
    """The windows that are encoded, as their first row and column."""
    found = []

    def encode(task, image, window, extremes=None):
        found.append((window[0].start, window[1].start))
        return prompted.encode_window(task, image, window, extremes)

    monkeypatch.setattr(segmenter, "encode_window", encode)
    return found


def opened(tile=None, model=None):
    found = make_segmenter(model or tiny_sam(), tile)
    found.open(IMAGE)
    return found


def box(corners):
    return Prompts(boxes=torch.tensor([corners]))


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize(
    "prompts",
    [
        box(LEFT),
        box(RIGHT),
        box(LARGE),
        Prompts(points=torch.tensor([[[60.0, 40]]]), point_labels=torch.ones(1, 1)),
        Prompts(torch.tensor([RIGHT]), torch.tensor([[[90.0, 60], [100, 80]]]), torch.tensor([[1.0, 0]])),
    ],
)
def test_the_mask_is_that_of_predict_in_the_same_tiles(tile, prompts):
    found, task = opened(tile), opened().task
    (expected,) = decode_prompts(task, IMAGE, TileGrid(IMAGE.size, tile or 130), prompts)
    for own in (found.predict(prompts), found.predict(prompts)):
        assert (own.x0, own.y0) == (expected.x0, expected.y0)
        assert own.pred_iou == expected.pred_iou
        assert np.array_equal(own.mask, expected.mask)


def test_an_empty_mask_is_none():
    model = tiny_sam()
    with torch.no_grad():
        model.mask_decoder.output_upscaling[3].weight.zero_()
        model.mask_decoder.output_upscaling[3].bias.zero_()  # all logits are 0
    assert opened(model=model).predict(box(LEFT)) is None


def test_a_window_is_encoded_once_and_only_when_a_prompt_lies_in_it(encoded):
    found = opened(tile=64)
    assert encoded == []
    for corners in (LEFT, LEFT, RIGHT, LARGE, LEFT, LARGE):
        found.predict(box(corners))
    assert encoded == [(0, 0), (26, 66), (0, 0)]  # the last around the large object: the whole image


def test_the_windows_that_were_used_last_are_kept(encoded, monkeypatch):
    monkeypatch.setattr(segmenter, "KEPT_WINDOWS", 2)
    found = opened(tile=64)
    for corners in (LEFT, RIGHT, LEFT, LARGE, LEFT, RIGHT):
        found.predict(box(corners))
    assert encoded == [(0, 0), (26, 66), (0, 0), (26, 66)]


def test_another_image_is_encoded_anew(encoded):
    found = opened()
    found.predict(box(LEFT))
    found.open(ArrayWindows(smooth_image(60, 60)))
    found.predict(box(LEFT))
    assert len(encoded) == 2


@pytest.mark.parametrize("tile", [None, 64])
def test_all_objects_are_found_by_the_head_in_tiles_and_without_one_by_the_grid(tile):
    model = confident_sam()
    found = opened(tile, model).find_all(4)
    expected = find_by_grid(opened(tile, model).task, 4, IMAGE, "")
    assert len(found.masks)
    assert torch.equal(dense(found.masks), dense(expected.masks))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.attach_head(SemanticHead())
    own = opened(tile, model)
    found, expected = own.find_all(4), find_by_head(own.task, own.options, IMAGE, "")
    assert len(found.masks)
    assert torch.equal(dense(found.masks), dense(expected.masks))
    assert torch.equal(found.scores, expected.scores)
