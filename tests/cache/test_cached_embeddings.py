"""Cached embeddings are those that the encoder would make at the time."""

import math
import pickle

import pytest
import safetensors.torch
import torch

from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.tiled import TiledSplit
from sam_ft.data.transforms import Augment
from sam_ft.utils.errors import ConfigError
from tests.support.blobs import Blobs
from tests.support.caching import COUNTS, Cached, Known, files
from tests.support.steps import steps


def test_cached_embeddings_are_the_fresh_ones():
    run = Cached().fill()
    batch = run.dataset.batch([0, 1, 2])
    assert batch.images is None
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))


def test_float16_rounds_cached_and_fresh_embeddings_alike():
    run = Cached(dtype="float16").fill()
    batch = run.dataset.batch([0, 1, 2])
    assert batch.features.maps[0].dtype == torch.float16
    assert torch.equal(run.task.encode(batch).embedding, run.fresh([0, 1, 2]))
    exact = Cached().fresh([0, 1, 2])
    assert not torch.equal(run.fresh([0, 1, 2]), exact)
    torch.testing.assert_close(run.fresh([0, 1, 2]), exact, rtol=1e-3, atol=1e-3)


def test_entries_of_views_are_those_of_the_turned_images_and_the_masks_move_along():
    run = Cached()
    plain, dataset = (TrainingSet(Blobs(COUNTS), Augment([]), 64, None, 0, 8, read) for read in (None, run.cache.read))
    run.fill({view for epoch in range(40) for view in dataset.views_in(epoch, range(3))}, dataset)
    assert run.encoded == 24
    for epoch in range(40):
        ours, theirs = (some.batch([some.draw(epoch, image) for image in range(3)]) for some in (dataset, plain))
        assert ours.images is None
        assert torch.equal(ours.masks, theirs.masks)
        assert torch.equal(ours.boxes, theirs.boxes)
        assert ours.sizes == theirs.sizes
        assert torch.equal(ours.features.maps[0], run.task.prefix(theirs.images, theirs.sizes).maps[0])


def test_an_encoder_whose_neck_learns_trains_from_cached_maps_exactly_as_from_fresh_ones(home):
    fresh, cached = (steps("image_encoder.neck", 1, COUNTS, dtype) for dtype in (None, "float32"))
    assert len(files(home)) >= 3
    shapes = {tuple(tensor.shape) for tensor in safetensors.torch.load_file(files(home)[0]).values()}
    assert math.prod(shapes.pop()) == 32 * 4 * 4  # before the neck
    assert cached["losses"] == fresh["losses"]
    assert cached["scores"] == fresh["scores"]
    assert all(torch.equal(tensor, fresh["weights"][name]) for name, tensor in cached["weights"].items())


def test_loaders_of_other_processes_read_from_a_copy():
    run = Cached().fill()
    copy = pickle.loads(pickle.dumps(run.dataset))
    assert torch.equal(copy.batch([0, 2]).features.maps[0], run.dataset.batch([0, 2]).features.maps[0])


def test_features_that_do_not_fit_into_float16_are_refused(home):
    run = Cached(dtype="float16")
    with torch.no_grad():
        run.task.model.image_encoder.neck[3].bias.fill_(1e5)  # float16 ends at 65504
    with pytest.raises(ConfigError, match=r"blobs_\d.*cache\.dtype=float16; set cache\.dtype=float32"):
        run.fill()
    assert not list(home.rglob("*.safetensors"))


def test_tiles_are_encoded_with_the_extremes_of_their_image_and_cached_so():
    def cached(extremes_at):
        run = Cached(TiledSplit(Known(COUNTS), 40, overlap=0.5, extremes_at=extremes_at))
        run.task.model.normalize = "minmax"
        return run.fill()

    whole, own = cached(64), cached(None)
    tiles = len(whole.dataset)
    assert (whole.encoded, own.encoded) == (tiles, tiles)  # not each other's entries
    assert cached(64).encoded == 0
    for run in (whole, own):
        read = run.dataset.batch(list(range(tiles))).features.embedding
        assert torch.equal(read, run.fresh(list(range(tiles))))
    images = EvaluationSet(whole.dataset.split, 64).batch([0, 1])
    assert images.extremes.shape == (2, 2)
    assert torch.equal(images.extremes[0], images.extremes[1])  # tiles of one image
    assert not torch.equal(whole.fresh(list(range(tiles))), own.fresh(list(range(tiles))))
