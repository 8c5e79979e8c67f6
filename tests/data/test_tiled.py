from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.sources.folder import Folder
from sam_ft.data.tiled import TiledSplit, crop_sample, image_of_tile, resolve_tile, tile_extremes
from sam_ft.data.transforms import Augment
from sam_ft.models.sam import value_extremes
from sam_ft.types import NOTHING_ELSEWHERE, Sample, dense
from sam_ft.utils.errors import ConfigError
from tests.support.blobs import Blobs
from tests.support.files import make, save


def wide_sample(*spans):
    """An image of 8 × 40 with a bar in the columns of each span."""
    masks = torch.zeros(len(spans), 8, 40, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[2:5, start:stop] = True
    number = torch.arange(len(spans))
    return Sample(torch.arange(960, dtype=torch.uint8).reshape(3, 8, 40), masks, number + 7, "a", (8, 40), number)


LEFT = (slice(0, 8), slice(0, 20))


def test_an_object_counts_where_enough_of_it_lies_and_is_ignored_elsewhere():
    sample = wide_sample((2, 6), (15, 25), (17, 30), (30, 35))
    tile = crop_sample(sample, LEFT, min_share=0.5)
    assert tile.object_index.tolist() == [0, 1]
    assert tile.labels.tolist() == [7, 8]
    assert torch.equal(tile.masks, sample.masks[:2, :, :20])
    assert torch.equal(tile.image, sample.image[:, :, :20])
    # The third has 3 of 13 columns here, which the second covers: those pixels count.
    assert tile.ignore is None
    apart = crop_sample(wide_sample((2, 6), (17, 30)), LEFT, min_share=0.5)
    assert torch.nonzero(apart.ignore[2]).flatten().tolist() == [17, 18, 19]
    assert len(crop_sample(sample, LEFT, min_share=0).object_index) == 3


def test_each_part_of_an_object_larger_than_the_window_counts():
    sample = wide_sample((2, 6), (17, 40))
    tile = crop_sample(sample, LEFT, min_share=0.5)
    assert tile.object_index.tolist() == [0, 1]
    assert torch.equal(tile.masks, sample.masks[:, :, :20])
    assert tile.ignore is None


def test_ignored_pixels_of_the_image_stay_ignored():
    ignore = torch.zeros(8, 40, dtype=torch.bool)
    ignore[0, 5] = True
    tile = crop_sample(replace(wide_sample((17, 30)), ignore=ignore), LEFT, min_share=0.5)
    assert tile.ignore.sum() == 1 + 3 * 3


def test_tiles_have_names_of_their_place_and_small_images_stay_as_they_are():
    blobs = Blobs([4, 5])  # 48 × 72 and 56 × 64
    tiled = TiledSplit(blobs, 64, overlap=0.25)
    assert tiled.names == ["blobs_0@0,0", "blobs_0@0,8", "blobs_1"]
    assert [image_of_tile(name) for name in tiled.names] == ["blobs_0", "blobs_0", "blobs_1"]
    assert image_of_tile("me@home") == "me@home"
    whole, same = blobs[1], tiled[2]
    assert torch.equal(same.image, whole.image)
    assert torch.equal(same.masks, whole.masks)
    assert [tiled[index].name for index in range(3)] == tiled.names
    assert tiled[1].size == tuple(tiled[1].image.shape[1:]) == (48, 64)
    assert torch.equal(tiled[1].image, blobs[0].image[:, :, 8:])
    assert tiled.annotations(1).image.numel() == 0
    assert torch.equal(tiled.annotations(1).masks, tiled[1].masks)


def test_every_object_is_whole_in_some_tile_and_counts_once_in_an_evaluation():
    blobs = Blobs([6, 7, 1])
    tiled = TiledSplit(blobs, 40, overlap=0.5, once=True)
    found = Counter()
    for index in range(len(tiled)):
        sample = tiled[index]
        image = blobs.names.index(image_of_tile(sample.name))
        for mask, number in zip(dense(sample.masks), sample.object_index.tolist(), strict=True):
            found[image, number] += 1
            assert mask.sum() == blobs[image].masks[number].sum()  # discs of 16 px and an overlap of 20
        assert sample.ignore is None
        # every pixel of another object that the tile shows
        rows, columns = tiled.grids[image].rows, tiled.grids[image].columns
        place = index - tiled.names.index(next(name for name in tiled.names if name.startswith(blobs.names[image])))
        window = (rows[place // len(columns)], columns[place % len(columns)])
        shown = blobs[image].masks.any(dim=0)[window]
        elsewhere = sample.elsewhere != NOTHING_ELSEWHERE
        assert torch.equal(elsewhere, shown & ~dense(sample.masks).any(dim=0))
        assert {*sample.elsewhere[elsewhere].tolist()} <= {*blobs[image].labels.tolist()}
    assert found == {(image, number): 1 for image, count in enumerate([6, 7, 1]) for number in range(count)}
    assert tiled.survey().objects == 14


def test_a_survey_counts_the_objects_of_tiles():
    tiled = TiledSplit(Blobs([1, 0]), 40, overlap=0)
    survey = tiled.survey()
    assert survey.images == len(tiled) == 8
    assert survey.objects == sum(len(tiled[index].masks) for index in range(8)) >= 1
    assert survey.empty == [tiled.names[index] for index in range(8) if not len(tiled[index].masks)]


def test_tiles_of_files_are_trained_and_evaluated_on(tmp_path):
    files = Folder(make(tmp_path), objects="components", min_area=1, val_fraction=0.5).split("train")
    tiled = TiledSplit(files, 5, overlap=0.2)
    training = TrainingSet(tiled, Augment([]), 64, max_objects=8, seed=0)
    batch = training.batch([training.draw(0, 1)])
    assert batch.names == [tiled.names[1]] == [f"{files.names[0]}@0,3"]
    assert batch.images.shape == (1, 3, 64, 64)
    once = TiledSplit(files, 5, overlap=0.2, once=True)
    objects = sum(EvaluationSet(once, 64).batch([index]).num_objects for index in range(len(once)))
    assert objects == files.survey().objects


def test_fingerprints_differ_by_tile_and_follow_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sam_ft.data.io.fingerprint.SETTLED", -1)
    files = Folder(make(tmp_path), objects="components", min_area=1, val_fraction=0.5).split("train")
    tiled = TiledSplit(files, 5, overlap=0.2)
    assert len({tiled.fingerprint(index) for index in range(len(tiled))}) == len(tiled)
    assert tiled.fingerprint(0).startswith(files.fingerprint(0))
    assert TiledSplit(files, 50).fingerprint(0) == files.fingerprint(0)
    assert TiledSplit(Blobs([1]), 40).fingerprint(0) is None


@pytest.mark.parametrize("tile", [24, 80])
def test_extremes_of_tiles_are_those_of_the_image_where_it_is_one_tile(tile):
    blobs = Blobs([4])
    tiled = TiledSplit(blobs, tile)
    extremes = tile_extremes((tiled[index].image for index in range(len(tiled))), 64)
    if tile == 80:
        batch = EvaluationSet(tiled, 64).batch([0])
        assert torch.equal(extremes[None], value_extremes(batch.images, batch.sizes))
    each = [tile_extremes([tiled[index].image], 64) for index in range(len(tiled))]
    assert extremes.tolist() == [min(low for low, _ in each), max(high for _, high in each)]


def test_auto_takes_the_tile_from_the_objects_and_images_of_the_split(messages):
    blobs = Blobs([5, 4, 6])  # discs of 10 to 16 px in images of up to 72
    assert resolve_tile(None, blobs, 64) == 72  # the longest side: no image is cut
    assert resolve_tile(40, blobs, 64) == 40
    short = sorted(min(mask.any(1).sum(), mask.any(0).sum()) for index in range(3) for mask in blobs[index].masks)
    assert short[0] * 64 // 12 <= resolve_tile("auto", blobs, 64) <= short[3] * 64 // 12
    assert resolve_tile("auto", blobs, 1024) == 72  # no image is cut
    for wrong in ("big", 0, True, 8.5):
        messages.refusal(lambda wrong=wrong: resolve_tile(wrong, blobs, 64), f"tile={wrong}", "auto")


def test_a_wrong_side_is_refused_before_masks_are_read(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.tile=8"):
        Folder(tmp_path, tile=8)


def test_an_image_is_read_once_for_the_tiles_that_follow_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr("sam_ft.data.io.fingerprint.SETTLED", -1)
    files = Folder(make(tmp_path), objects="components", min_area=1, val_fraction=0.5).split("train")
    tiled = TiledSplit(files, 5, overlap=0.2)
    reads, read = [], type(files).__getitem__
    monkeypatch.setattr(type(files), "__getitem__", lambda split, index: reads.append(index) or read(split, index))
    first = [tiled[index] for index in range(len(tiled))]
    assert reads == list(range(len(files)))
    assert len(tiled) == 4 * len(files)
    path = files.items[-1].image
    save(path, np.full((6, 8, 3), 9, np.uint8))
    assert first[-1].image.float().mean() != tiled[len(tiled) - 1].image.float().mean() == 9


def test_an_object_of_parts_is_in_a_tile_that_shows_one():
    corners = torch.zeros(1, 40, 40, dtype=torch.bool)
    corners[0, :2, :2] = corners[0, -4:, -4:] = (
        True  # the box is as large in every tile, and most pixels are in the last
    )

    class Parts(Blobs):
        def annotations(self, index):
            sample = wide_sample((0, 1))
            return replace(sample, image=torch.zeros(3, 40, 40, dtype=torch.uint8), masks=corners, size=(40, 40))

        __getitem__ = annotations

    tiled = TiledSplit(Parts([1]), 16, overlap=0, once=True)
    counts = [len(tiled.annotations(index).masks) for index in range(len(tiled))]
    assert counts == [0] * 8 + [1] or counts == [1] + [0] * 8
