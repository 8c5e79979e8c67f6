import numpy as np
import pytest
import torch

from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.sources.run_lengths import compress_ids
from sam_ft.data.transforms import resize_image
from sam_ft.evaluation import segment
from sam_ft.evaluation.segment import SegmentOptions, compress_found, image_extremes, segment_image
from sam_ft.instances.parts import ObjectCrop
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.models.heads import InstanceHead
from sam_ft.task import PromptedSegmentation
from sam_ft.types import dense
from sam_ft.utils.tiles import TileGrid
from tests.evaluation.test_tiled_maps import smooth_image
from tests.support.instances import SIZE
from tests.support.tiny import tiny_sam, tiny_vit_sam

# Random maps lie round 1/2.
LOW = WatershedThresholds(foreground=0.45, height=0.05, smoothing=1.0, min_area=5)


def task_with_head(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.attach_head(InstanceHead())
    return PromptedSegmentation(model)


@pytest.mark.parametrize("build", [tiny_sam, tiny_vit_sam])
@pytest.mark.parametrize("tile", [None, 64])
def test_blocks_of_a_large_image_find_the_objects_of_one_watershed(monkeypatch, build, tile):
    task, image = task_with_head(build()), ArrayWindows(smooth_image(150, 110))
    options = SegmentOptions(LOW, tile)
    masks, scores = segment_image(task, image, options)
    assert len(masks) > (0 if tile is None else 1)
    assert dense(masks).sum(0).max() == 1
    monkeypatch.setattr(segment, "ONE_BLOCK", 0)
    again, own = segment_image(task, image, options)
    assert again.counts == masks.counts
    assert torch.allclose(own, scores)


def test_an_image_no_larger_than_a_tile_is_encoded_as_a_whole():
    task, image = task_with_head(tiny_sam()), ArrayWindows(smooth_image(60, 90))
    whole = segment_image(task, image, SegmentOptions(LOW))[0].counts
    assert segment_image(task, image, SegmentOptions(LOW, tile=90))[0].counts == whole
    assert segment_image(task, image, SegmentOptions(LOW, tile=64))[0].counts != whole


def test_the_decoder_uses_the_features_that_the_head_used(monkeypatch):
    task, image = task_with_head(tiny_vit_sam()), ArrayWindows(smooth_image(150, 110))
    options = SegmentOptions(LOW, tile=64, refine=True)
    encoded, encode = [], task.model.prefix
    monkeypatch.setattr(
        task.model, "prefix", lambda images, *rest: encoded.append(len(images)) or encode(images, *rest)
    )
    masks, scores = segment_image(task, image, options)
    assert sum(encoded) == len(TileGrid(image.size, 64))
    monkeypatch.setattr(segment, "KEPT_TILES", 0)  # each again
    again, own = segment_image(task, image, options)
    assert sum(encoded) > 2 * len(TileGrid(image.size, 64))
    assert len(masks)
    assert again.counts == masks.counts
    assert torch.equal(scores, own)


def test_all_tiles_are_scaled_by_the_extremes_of_the_image():
    pixels = smooth_image(100, 100)
    pixels[:50, :50] = pixels[:50, :50] // 4
    image, grid = ArrayWindows(pixels), TileGrid((100, 100), 64)
    task = PromptedSegmentation(tiny_vit_sam())
    tiles = [resize_image(image.read(*window), (64, 64)) for window in grid]
    found = image_extremes(task, image, grid)
    assert found.tolist() == [min(one.min() for one in tiles), max(one.max() for one in tiles)]
    assert image_extremes(task, image, TileGrid((100, 100), 100)) is None
    assert image_extremes(PromptedSegmentation(tiny_sam()), image, grid) is None


def test_a_model_without_a_head_is_refused(messages):
    with messages.raises(ValueError, "head=instances"):
        segment_image(PromptedSegmentation(tiny_sam()), ArrayWindows(smooth_image(20, 30)), SegmentOptions())


def test_the_options_of_a_run_come_from_its_checkpoint():
    notes = {"thresholds": {"foreground": 0.7, "min_area": 3}, "tile": 96, "refine": True, "best_epoch": 2}
    found = SegmentOptions.from_notes(notes)
    assert found == SegmentOptions(WatershedThresholds(foreground=0.7, min_area=3), 96, True)
    assert SegmentOptions.from_notes({"best_epoch": 2}) == SegmentOptions()


def test_objects_of_a_large_image_are_compressed_in_their_order():
    ids = np.zeros(SIZE, np.int32)
    ids[2:4, 5:30], ids[10:30, 40:44] = 1, 2
    boxes = {1: (5, 2, np.ones((2, 25), bool)), 2: (40, 10, np.ones((20, 4), bool))}
    masks, scores = compress_found((ObjectCrop(number, *boxes[number], number / 4) for number in (2, 1)), SIZE)
    assert masks.counts == compress_ids(ids).counts
    assert scores.tolist() == [0.25, 0.5]
    masks, scores = compress_found([], SIZE)
    assert (len(masks), len(scores)) == (0, 0)
