from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.io.windows import ArrayWindows
from sam_ft.data.map_targets import paint
from sam_ft.data.tiled import TiledSplit, crop_sample
from sam_ft.evaluation import instances, thresholds
from sam_ft.evaluation.instances import ImageMaps, InstanceScorer, compress_gt
from sam_ft.evaluation.segment import SegmentOptions, segment_image
from sam_ft.evaluation.thresholds import MAX_IMAGES, CroppedSplit, choose_images, find_thresholds, maps_in_tiles
from sam_ft.evaluation.without_prompts import pixels
from sam_ft.instances.maps import instance_maps
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.models.heads import InstanceHead
from tests.support.blobs import Blobs
from tests.support.steps import learning_task


def windows(tiled, index):
    """Rows and columns of a tile of a split of one image."""
    return list(tiled.grids[0])[index]


def test_a_search_takes_some_images_always_the_same():
    split = Blobs([1] * 40)
    chosen = choose_images(split, range(1, 40))
    assert len(chosen) == len(set(chosen)) == MAX_IMAGES
    assert chosen == sorted(chosen) == choose_images(split, range(1, 40))
    assert min(chosen) >= 1
    assert choose_images(split, [3, 7]) == [3, 7]


def test_large_images_are_fewer_but_at_least_one(monkeypatch):
    split = Blobs([1] * 5)
    areas = [height * width for height, width in (split[index].size for index in range(5))]
    monkeypatch.setattr(thresholds, "MAX_PIXELS", sum(areas) - 1)
    chosen = choose_images(split, range(5))
    assert sum(areas[index] for index in chosen) < sum(areas)
    monkeypatch.setattr(thresholds, "MAX_PIXELS", 1)
    assert len(choose_images(split, range(5))) == 1


def test_of_a_huge_image_the_middle_is_searched(monkeypatch):
    split = Blobs([4])
    assert CroppedSplit(split)[0].size == split[0].size
    monkeypatch.setattr(thresholds, "MAX_PIXELS", 32**2)
    sample = CroppedSplit(split)[0]
    height, width = split[0].size
    assert sample.size == tuple(sample.image.shape[1:]) == (32, 32)
    middle = split[0].image[:, (height - 32) // 2 :, (width - 32) // 2 :][:, :32, :32]
    assert torch.equal(sample.image, middle)


def test_thresholds_suit_the_maps():
    images = []
    for index in range(2):
        sample = Blobs([2, 3])[index]
        maps = 0.4 * instance_maps(paint(sample.masks, sample.size))
        images.append(ImageMaps(sample.name, maps, compress_gt(sample.masks, sample.size), None))
    found, score = find_thresholds(images)
    assert found.foreground == 0.3
    assert score == pytest.approx(1, abs=0.2)


def test_maps_of_tiles_are_those_that_a_prediction_finds_objects_in(monkeypatch):
    task, blobs = learning_task(), Blobs([2, 3])
    task.model.attach_head(InstanceHead())
    seen = []
    monkeypatch.setattr(instances, "segment_maps", lambda maps, thresholds: seen.append(maps) or maps[0].astype(int))
    for index in range(2):
        segment_image(task, ArrayWindows(pixels(blobs[index])), SegmentOptions(tile=40))
    found = [maps for maps, _ in maps_in_tiles(task, blobs, range(2), 40)]
    assert [image.name for image in found] == list(blobs.names)
    assert all(np.array_equal(image.maps, maps) for image, maps in zip(found, seen, strict=True))
    assert [len(image.gt) for image in found] == [2, 3]


def test_pixels_of_objects_of_other_tiles_do_not_count_for_a_head():
    tiled = TiledSplit(Blobs([6]), 40, overlap=0.5, once=True)
    dataset, scorer = EvaluationSet(tiled, 64), InstanceScorer(WatershedThresholds(min_area=1, smoothing=0.1))
    task = learning_task()
    task.model.attach_head(InstanceHead())
    for index in range(len(tiled)):
        sample = dataset.batch([index])
        # A perfect head: it also finds those parts of objects that count in other tiles.
        shown = crop_sample(Blobs([6])[0], windows(tiled, index), min_share=0)
        own = torch.from_numpy(instance_maps(paint(shown.masks, shown.size)))
        with mock.patch.object(instances, "maps_to_original", lambda *_, own=own: own):
            scorer.update(task, task.encode(sample), replace(sample, images=torch.zeros(1, 3, 64, 64)))
    assert scorer.compute()["sa50"] == 1
