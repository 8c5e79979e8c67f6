"""Channels and stacks: which of the values of a file become the image."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sam_ft.data.io.images import image_tensor, read_image, read_size
from sam_ft.data.io.masks import read_instance_mask
from sam_ft.data.io.windows import ImageWindows
from tests.support.files import save

HEIGHT, WIDTH = 12, 10
BYTES = np.random.default_rng(0).integers(0, 256, (2, 3, 4, HEIGHT, WIDTH), np.uint8)  # T, Z, C, Y, X
STACK = BYTES[0, :, 0]  # Z, Y, X


def gray(plane):
    return np.dstack([plane] * 3)


def ome(path, values, axes):
    tifffile.imwrite(path, values, ome=True, photometric="minisblack", metadata={"axes": axes})
    return path


def imagej(path, values, axes):
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": axes})
    return path


def plain(path, values, axes, **options):
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    return path


WRITERS = {
    "ome": ome,
    "imagej": imagej,
    "imagej with one header": lambda path, values, axes: _with_one_header(imagej(path, values, axes)),
    "tifffile with one header": lambda path, values, axes: plain(
        path, values, axes, metadata={"axes": axes}, truncate=True
    ),
}


def _with_one_header(path):
    """As ImageJ writes stacks of more than 4 GB: the header of the first page, and all values."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        place = page.offset + 2 + 12 * len(page.tags)  # of the offset of the next header
    data[place : place + 4] = bytes(4)
    path.write_bytes(data)
    return path


def windows(path, **choice):
    with ImageWindows(path, **choice) as image:
        whole = image.read(slice(0, image.size[0]), slice(0, image.size[1]))
        assert torch.equal(image.read(slice(2, 7), slice(1, 9)), whole[:, 2:7, 1:9])
    return whole


def read(path, **choice):
    """The image, of which windows are the same."""
    found = read_image(path, **choice)
    assert read_size(path, choice.get("projection") or choice.get("page"), choice.get("channels")) == found.shape[:2]
    assert torch.equal(windows(path, **choice), image_tensor(found))
    return found


@pytest.mark.parametrize("writer", WRITERS)
def test_a_slice_of_a_stack_is_chosen_or_all_are_projected(messages, tmp_path, writer):
    path = WRITERS[writer](tmp_path / "a.tif", STACK, "ZYX")
    for number in range(3):
        assert np.array_equal(read(path, page=number), gray(STACK[number]))
    assert np.array_equal(read(path, projection="max"), gray(STACK.max(0)))
    assert np.array_equal(read(path, projection="mean"), gray(np.rint(STACK.mean(0)).astype(np.uint8)))
    messages.refusal(lambda: read_image(path), "a.tif: ", "3 pages (axes ZYX", "data.page", "data.projection=max")
    messages.refusal(lambda: read_image(path, page=3), "data.page=3", "ZYX")
    messages.refusal(lambda: read_image(path, page=0, channels=[0, 1]), "1 channel,", "data.channels=[0, 1]")


@pytest.mark.parametrize("writer", WRITERS)
def test_channels_are_never_taken_for_slices(messages, tmp_path, writer):
    channels = BYTES[0, 0]
    path = WRITERS[writer](tmp_path / "a.tif", channels, "CYX")
    for choice in ({}, {"page": 0}, {"projection": "max"}):
        facts = ["a.tif: ", "4 channels (axes CYX", "data.channels=[0,1]"]
        messages.refusal(lambda choice=choice: read_image(path, **choice), *facts)
    assert np.array_equal(read(path, channels=[3]), gray(channels[3]))
    assert np.array_equal(read(path, channels=[2, 0, 1]), np.moveaxis(channels[[2, 0, 1]], 0, -1))
    assert np.array_equal(read(path, channels=[0, 2])[..., :2], np.moveaxis(channels[[0, 2]], 0, -1))
    assert not read(path, channels=[0, 2])[..., 2].any()
    messages.refusal(lambda: read_image(path, channels=[0, 4]), "4 channels, ", "data.channels=[0, 4]")


@pytest.mark.parametrize("writer", ["ome", "imagej", "imagej with one header"])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "TZCYX"])
def test_slices_and_channels_are_chosen_together_in_any_order(tmp_path, writer, axes):
    if axes == "CZYX" and writer != "ome":
        pytest.skip("ImageJ has one order")
    values = BYTES if axes == "TZCYX" else BYTES[0] if axes == "ZCYX" else BYTES[0].swapaxes(0, 1)
    path = WRITERS[writer](tmp_path / "a.tif", np.ascontiguousarray(values), axes)
    slices = BYTES.reshape(-1, *BYTES.shape[2:]) if axes == "TZCYX" else BYTES[0]
    assert np.array_equal(read(path, page=2, channels=[3, 1, 0]), np.moveaxis(slices[2][[3, 1, 0]], 0, -1))
    assert np.array_equal(read(path, projection="max", channels=[1]), gray(slices[:, 1].max(0)))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"metadata": None}])
def test_pages_without_named_axes_are_pages_or_channels(tmp_path, options):
    path = plain(tmp_path / "a.tif", STACK, "", **options)
    assert np.array_equal(read(path, page=1), gray(STACK[1]))
    assert np.array_equal(read(path, channels=[2, 1, 0]), np.moveaxis(STACK[::-1], 0, -1))
    assert np.array_equal(read(path, projection="max"), gray(STACK.max(0)))


@pytest.mark.parametrize("bands", [2, 4, 5, 7])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}])
def test_bands_of_a_page_are_channels(tmp_path, bands, planes, layout):
    values = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, bands), np.uint8)
    stored = np.ascontiguousarray(np.moveaxis(values, -1, 0)) if planes else values
    config = {"planarconfig": "separate" if planes else "contig"}
    path = plain(tmp_path / "a.tif", stored, "", **config, **layout)
    last = bands - 1
    assert np.array_equal(read(path, channels=[last, 0, 1]), values[..., [last, 0, 1]])
    assert np.array_equal(read(path, channels=[last]), gray(values[..., last]))


def test_each_chosen_channel_has_its_own_scale(tmp_path):
    strong = np.linspace(0, 60000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    path = imagej(tmp_path / "a.tif", np.stack([strong, strong // 30]), "CYX")
    for intensity in ("percentile", "range"):
        found = read(path, intensity=intensity, channels=[0, 1])
        assert found[..., :2].max((0, 1)).tolist() == [255, 255]
        assert np.abs(found[..., 0].astype(int) - found[..., 1]).max() <= 1
    assert read(path, intensity="dtype", channels=[0, 1]).max((0, 1)).tolist() == [233, 8, 0]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_slices_of_other_depths_are_projected(tmp_path, dtype):
    values = STACK.astype(dtype) * 3
    path = imagej(tmp_path / "a.tif", values, "ZYX")
    assert np.array_equal(read(path, intensity="range", projection="max"), _scaled(values.max(0)))
    mean = values.mean(0) if dtype == np.float32 else np.rint(values.mean(0))
    assert np.abs(read(path, intensity="range", projection="mean").astype(int) - _scaled(mean)).max() <= 1


def _scaled(values):
    low, high = values.min(), values.max()
    return gray(np.rint((values.astype(float) - low) * 255 / (float(high) - float(low))).astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_channels_of_other_formats_are_chosen_too(messages, tmp_path, mode):
    rgba = Image.fromarray(np.moveaxis(BYTES[0, 0], 0, -1))
    image = rgba.convert("RGB").quantize(8) if mode == "P" else rgba.convert(mode)
    path = save(tmp_path / "a.png", image)
    values = np.atleast_3d(np.array(image.convert("RGB") if mode == "P" else image))
    last = values.shape[-1] - 1
    assert np.array_equal(read(path, channels=[last, 0, 0]), values[..., [last, 0, 0]])
    messages.refusal(
        lambda: read_image(path, channels=[0, 4]), "a.png: ", f"{last + 1} channel", "data.channels=[0, 4]"
    )


def test_a_single_page_is_read_whatever_the_choice_of_slices(tmp_path):
    path = save(tmp_path / "a.png", BYTES[0, 0, 0])
    for choice in ({"page": 3}, {"projection": "max"}):
        assert np.array_equal(read(path, **choice), gray(BYTES[0, 0, 0]))


def test_masks_are_projected_like_their_images(tmp_path):
    ids = np.zeros((3, HEIGHT, WIDTH), np.uint16)
    ids[0, :3, :3], ids[1, 5:9, 5:9], ids[2, 5:9, 6:] = 7, 300, 300
    path = imagej(tmp_path / "a.tif", ids, "ZYX")
    assert np.array_equal(read_instance_mask(path, page="max")[0], ids.max(0))
    assert np.array_equal(read_instance_mask(path, page=1)[0], ids[1])


@pytest.mark.parametrize(
    ("choice", "fact"),
    [
        ({"projection": "sum"}, "data.projection=sum"),
        ({"projection": "max", "page": 1}, "data.page=1"),
        ({"channels": []}, "data.channels=[];"),
        ({"channels": [0, 1, 2, 3]}, "data.channels=[0, 1, 2, 3];"),
        ({"channels": 1}, "data.channels=1;"),
        ({"channels": [-1]}, "data.channels=[-1];"),
        ({"channels": [True]}, "data.channels=[True];"),
    ],
)
def test_choices_that_make_no_sense_are_refused(messages, tmp_path, choice, fact):
    path = save(tmp_path / "a.png", BYTES[0, 0, 0])
    messages.refusal(lambda: read_image(path, **choice), fact)
    messages.refusal(lambda: ImageWindows(path, **choice), fact)


def test_a_stack_that_takes_too_much_memory_is_refused(messages, tmp_path):
    path = imagej(tmp_path / "a.tif", STACK, "ZYX")
    messages.refusal(lambda: ImageWindows(path, projection="max", limit=100), "a.tif: ", "several pages")
