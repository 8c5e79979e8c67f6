import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from sam_ft.data.io.windows import ArrayWindows, ImageWindows
from sam_ft.evaluation.segment import compress_found
from sam_ft.evaluation.tiled_maps import maps_to_original, predict_in_tiles
from sam_ft.instances.bands import segment_bands
from sam_ft.instances.watershed import WatershedThresholds
from sam_ft.utils.tiles import TileGrid
from tests.support.tiny import tiny_sam

SIDE = 64


def smooth_image(height, width, seed=0):
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (6, 6, 0))
    return (128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def brightness(images, sizes):
    """Maps at a quarter of the input: the red, green and blue of the pixels."""
    assert len(images) == len(sizes) <= 3
    return F.avg_pool2d(images.float() / 255, 4)


def whole(image, tile, batch_size=3, overlap=0.25):
    grid = TileGrid(image.size, tile, overlap)
    return np.concatenate(list(predict_in_tiles(image, grid, SIDE, brightness, batch_size)), axis=1)


def test_maps_of_tiles_lie_where_their_pixels_are():
    image = smooth_image(150, 211)
    maps = whole(ArrayWindows(image), tile=64)
    assert maps.shape == (3, 150, 211)
    assert maps.dtype == np.float32
    error, *shifted = (
        np.abs(maps - np.roll(image, shift, (0, 1)).transpose(2, 0, 1) / 255)[:, 2:-2, 2:-2].mean()
        for shift in [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    )
    assert error < 0.015  # of the reduction by four
    assert error < 0.9 * min(shifted)


def test_the_batch_size_changes_nothing():
    image = ArrayWindows(smooth_image(90, 120))
    assert np.array_equal(whole(image, 40, batch_size=1), whole(image, 40, batch_size=3))


def test_one_tile_is_the_path_of_a_whole_image():
    image = smooth_image(50, 30)
    sam = tiny_sam()
    logits = torch.randn(2, 16, 16)
    expected = sam.postprocess(logits[None], (64, 38), (50, 30))[0]
    assert torch.equal(maps_to_original(logits, SIDE, (64, 38), (50, 30)), expected)
    found = list(predict_in_tiles(ArrayWindows(image), TileGrid((50, 30), 300), SIDE, lambda *_: logits[None]))
    assert len(found) == 1
    assert np.allclose(found[0], expected, atol=1e-6)


def test_a_file_gives_the_maps_of_its_pixels(tmp_path):
    image = smooth_image(70, 90)
    Image.fromarray(image).save(tmp_path / "a.png")
    with ImageWindows(tmp_path / "a.png") as file:
        assert np.array_equal(whole(file, 40), whole(ArrayWindows(image), 40))


def test_an_object_across_four_tiles_and_four_blocks_comes_back_as_one():
    image = np.full((128, 128, 3), 20, np.uint8)
    rows, columns = np.mgrid[:128, :128]
    disc = np.hypot(rows - 62, columns - 66) < 22
    image[disc] = 230
    grid = TileGrid((128, 128), 64, 0.25)
    corners = [(rows, columns) for rows, columns in grid if disc[rows, columns].any()]
    assert len(corners) >= 4
    bands = predict_in_tiles(ArrayWindows(image), grid, SIDE, brightness)
    masks, scores = compress_found(
        segment_bands(bands, (128, 128), WatershedThresholds(), halo=50, block=64), (128,) * 2
    )
    assert len(masks) == 1
    found = masks[torch.tensor([0])][0].numpy()
    assert (found & disc).sum() / (found | disc).sum() > 0.95
    assert scores[0] > 0.8
